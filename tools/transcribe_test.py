"""Tests of `asr-qat transcribe` through the real command line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from asr_qat.export.testing import tiny_float_model, write_tiny_recognizer
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.runtime.search.config import SearchConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transcribe")
    write_tiny_recognizer(folder / "model.tflite")
    rng = np.random.default_rng(0)
    rows = []
    for i, rate in enumerate((16000, 8000, 44100)):
        samples = (0.2 * rng.normal(size=(rate, 1 + i % 2))).clip(-1, 1)
        soundfile.write(folder / f"{i}.wav", samples, rate)
        row = {"audio_filepath": f"{i}.wav", "duration": 1.0, "text": "x", "speaker": "s"}
        rows.append(json.dumps({**row, "id": str(i)}))
    (folder / "set.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "noaudio.wav").write_text("this is no audio")
    content = (folder / "model.tflite").read_bytes()
    (folder / "short.tflite").write_bytes(content[: len(content) // 2])
    (folder / "other.tflite").write_bytes(tiny_float_model()[0])
    (folder / "text.tflite").write_text("not a model at all")
    return folder


def transcribe(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "asr_qat.tools.main", "transcribe", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
    )


def test_prints_a_line_for_each_file(folder):
    done = transcribe(folder, "model.tflite", "0.wav", "1.wav")
    assert done.returncode == 0 and done.stderr == ""
    samples, _ = soundfile.read(folder / "0.wav", dtype="float32")
    expected = Recognizer(folder / "model.tflite").transcribe(samples)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [path for path, _ in lines] == ["0.wav", "1.wav"] and lines[0][1] == expected != ""


def test_json_of_a_manifest_equals_the_plain_lines(folder):
    done = transcribe(folder, "model.tflite", "set.jsonl", "--json", "--threads", "2")
    assert done.returncode == 0 and done.stderr == ""
    document = json.loads(done.stdout)
    plain = transcribe(folder, "model.tflite", "set.jsonl").stdout.splitlines()
    assert [f"{u['path']}\t{u['text']}" for u in document["utterances"]] == plain
    assert document["audio_seconds"] == pytest.approx(3, abs=0.01)
    assert document["real_time_factor"] > 0


def test_partials_grow_into_the_text(folder):
    done = transcribe(folder, "model.tflite", "0.wav", "--partial", "--json")
    (result,) = json.loads(done.stdout)["utterances"]
    assert result["partials"]
    assert all(result["text"].startswith(p["text"]) for p in result["partials"])
    assert result["revised_words"] == 0
    lines = transcribe(folder, "model.tflite", "0.wav", "--partial").stdout.splitlines()
    assert len(lines) == len(result["partials"]) + 2
    assert lines[0].startswith("0.wav\t[")
    assert lines[-2:] == ["0.wav\t[words revised: 0]", f"0.wav\t{result['text']}"]


def test_n_best_and_words_in_text_and_json(folder):
    arguments = ["model.tflite", "0.wav", "--search", "time_synchronous", "--nbest", "3"]
    document = json.loads(transcribe(folder, *arguments, "--json", "--beam", "3").stdout)
    (result,) = document["utterances"]
    assert document["search"]["strategy"] == "time_synchronous" and document["search"]["beam"] == 3
    samples, _ = soundfile.read(folder / "0.wav", dtype="float32")
    config = SearchConfig(strategy="time_synchronous", beam=3, nbest=3)
    expected = Recognizer(folder / "model.tflite").nbest(samples, config)
    assert [one["text"] for one in result["nbest"]] == [one.text for one in expected]
    assert [one["total"] for one in result["nbest"]] == [one.total for one in expected]
    assert len(expected) == 3 and result["text"] == expected[0].text
    assert [word["text"] for word in result["words"]] == result["text"].split()
    lines = transcribe(folder, *arguments, "--beam", "3", "--words").stdout.splitlines()
    assert len(lines) == len(result["words"]) + 3 + 1
    assert lines[-1] == f"0.wav\t{result['text']}"
    assert lines[-4] == f"0.wav\t[1: {expected[0].total:.2f}]\t{result['text']}"
    assert lines[0].startswith("0.wav\t[") and lines[0].endswith(result["words"][0]["text"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.tflite", "noaudio.wav"], "noaudio.wav: expected a WAV, FLAC, Ogg or MP3 file"),
        (["model.tflite", "absent.wav"], "absent.wav"),
        (["model.tflite", "."], "."),
        (["model.tflite", "absent.jsonl"], "absent.jsonl"),
        (["absent.tflite", "0.wav"], "absent.tflite: cannot be read: No such file"),
        (["short.tflite", "0.wav"], "short.tflite: is truncated or damaged"),
        (
            ["other.tflite", "0.wav"],
            "other.tflite: has no asr_qat metadata; was it written by `asr-qat export`?",
        ),
        (["text.tflite", "0.wav"], "text.tflite: is not a .tflite file"),
        (["model.tflite", "0.wav", "--threads", "0"], "num_threads must be >= 1, received 0"),
        (["model.tflite", "0.wav", "--beam", "8"], "--beam 8 is of no matter to --search greedy"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, message):
    done = transcribe(folder, *arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("asr-qat transcribe: error: ") and message in done.stderr


def test_needs_neither_tensorflow_nor_much_memory(folder):
    code = (
        "import sys\n"
        "from asr_qat.tools.main import build_parser\n"
        "from asr_qat.tools.benchmark.peak_memory import resident_peak\n"
        "argv = ['asr-qat', 'transcribe', 'model.tflite', '0.wav', 'set.jsonl']\n"
        "args = build_parser(argv).parse_args(argv[1:])\n"
        "assert args.verb_run(args) == 0\n"
        "heavy = [m for m in ('tensorflow', 'keras', 'jax', 'grain') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
        "print(resident_peak(), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < 400e6
