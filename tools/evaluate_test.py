"""Tests of `asr-qat evaluate` through the real command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from asr_qat.data.manifest import read_manifest
from asr_qat.export.testing import write_tiny_recognizer
from asr_qat.metrics.bootstrap import bootstrap_interval
from asr_qat.metrics.wer import count_errors
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.tools.evaluate import evaluate_files
from asr_qat.tools.evaluate_text import labels, p_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two files and two test sets; the references are what the first file hears, but for one."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_tiny_recognizer(folder / "float.tflite", bits=32)
    write_tiny_recognizer(folder / "int4.tflite")
    recognizer = Recognizer(folder / "float.tflite")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(7):
        soundfile.write(folder / f"{i}.wav", 0.2 * rng.normal(size=8000), 16000)
        samples, _ = soundfile.read(folder / f"{i}.wav", dtype="float32")
        text = recognizer.transcribe(samples).upper() if i == 6 else recognizer.transcribe(samples)
        row = {"audio_filepath": f"{i}.wav", "duration": 0.5, "text": text, "id": f"u{i}"}
        rows.append(json.dumps({**row, "speaker": "st"[i % 2]}) + "\n")
    (folder / "clean.jsonl").write_text("".join(rows[:4]))
    (folder / "noisy.jsonl").write_text("".join(rows[4:]))
    silent = json.dumps({**json.loads(rows[0]), "text": ""})
    (folder / "silent.jsonl").write_text(silent + "\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "noaudio.wav").write_text("this is no audio")
    broken = json.dumps({**json.loads(rows[1]), "audio_filepath": "noaudio.wav", "id": "bad"})
    (folder / "broken.jsonl").write_text(rows[0] + broken + "\n")
    return folder


def evaluate(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "asr_qat.tools.main", "evaluate", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
    )


BOTH = ("float.tflite", "int4.tflite")
SETS = ("--manifest", "clean.jsonl", "--manifest", "noisy.jsonl")


@pytest.fixture(scope="module")
def saved(folder):
    done = evaluate(folder, *BOTH, *SETS, "--save", "both.json", "--json")
    assert done.returncode == 0 and done.stderr == ""
    document = json.loads(done.stdout)
    assert json.loads((folder / "both.json").read_text()) == document
    assert not list(folder.glob(".*"))
    return document


def test_the_document(folder, saved):
    assert saved["manifest"] == "clean.jsonl + noisy.jsonl" and saved["normalization"] == []
    first, second = saved["files"]
    utterances = read_manifest(folder / "clean.jsonl") + read_manifest(folder / "noisy.jsonl")
    recognizer = Recognizer(folder / "int4.tflite")
    texts = [
        recognizer.transcribe(soundfile.read(u.audio_filepath, dtype="float32")[0])
        for u in utterances
    ]
    assert [row["text"] for row in second["utterances"]] == texts
    assert [row["manifest"] for row in second["utterances"]] == 4 * ["clean.jsonl"] + 3 * [
        "noisy.jsonl"
    ]
    counts = count_errors([u.text for u in utterances], texts)
    interval = bootstrap_interval(counts)
    assert second["interval"] == [interval.low, interval.high]
    assert second["wer"] == interval.value > 0
    assert second["minus_first"]["matched_pairs"]["segments"] == 7
    assert second["audio_seconds"] == 3.5 and second["real_time_factor"] > 0
    assert first["minus_first"] is None and first["wer"] > 0  # the upper-case reference


def test_sets_add_up_to_the_total(saved):
    assert [one["manifest"] for one in saved["sets"]] == ["clean.jsonl", "noisy.jsonl"]
    for i, total in enumerate(saved["files"]):
        for key in ("substitutions", "deletions", "insertions", "words", "audio_seconds"):
            assert sum(one["files"][i][key] for one in saved["sets"]) == total[key]
    assert saved["sets"][0]["files"][0]["wer"] == 0.0
    assert "utterances" not in saved["sets"][0]["files"][0]


def test_saved_results_in_place_of_a_file(folder, saved):
    done = evaluate(folder, "both.json", *SETS, "--json")
    again = json.loads(done.stdout)
    assert done.returncode == 0 and again["differences"] == saved["differences"]
    for old, new in zip(saved["files"], again["files"], strict=True):
        assert new == {**old, "saved_in": "both.json"}
    beside = ("both.json", "int4.tflite", "--manifest", "noisy.jsonl")
    files = json.loads(evaluate(folder, *beside, "--json").stdout)["files"]
    assert files[1]["utterances"][0]["text"] == files[2]["utterances"][0]["text"]
    assert files[1]["minus_first"] == files[2]["minus_first"]
    assert labels(files) == ["float.tflite", "int4.tflite in both.json", "int4.tflite"]


def test_tables_and_differences(folder):
    done = evaluate(
        folder, *BOTH, *SETS, "--by", "length", "--by", "speaker", "--cer", "--differences", "1"
    )
    assert done.returncode == 0 and done.stderr == ""
    out = done.stdout
    assert "noisy.jsonl: 3 utterances, 2 speakers" in out and "all 2 test sets: 7" in out
    assert out.count("nothing is normalized") == 3 and out.count("characters") == 3
    assert "1 references have capitals or punctuation and no text has" in out
    assert out.count("\nspeaker") == 2 and out.count("\nwords in reference") == 2
    assert "minus first" in out and "differ  p\n" in out
    assert "texts differ in" in out and "more (--differences" in out
    assert out.count("\nreference") == 1
    lower = ("--normalize", "lower", "--unit", "speaker", "--show-errors", "--differences", "0")
    done = evaluate(folder, *BOTH, *SETS, *lower)
    assert "p over speakers" in done.stdout and "\nreference" not in done.stdout
    assert "changes the words of 1 references; of texts, 0 of float.tflite's" in done.stdout
    assert "int4.tflite u" in done.stdout and "float.tflite u" not in done.stdout
    assert "has: see --normalize" not in done.stdout


def test_evaluate_files_in_python(folder):
    utterances = read_manifest(folder / "clean.jsonl")
    results = evaluate_files([folder / name for name in BOTH], utterances)
    assert [result["pass"] for result in results] == ["encoder", "encoder"]
    assert results[0]["wer"] == 0.0 and results[1]["minus_first"]["difference"] > 0
    with pytest.raises(ValueError, match="got 0 utterances"):
        evaluate_files([folder / "float.tflite"], [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["float.tflite", "--manifest", "empty.jsonl"], "empty.jsonl: expected at least one"),
        (["float.tflite", "--manifest", "silent.jsonl"], "silent.jsonl: expected references with"),
        (["float.tflite", "--manifest", "broken.jsonl"], "utterance 'bad': "),
        (["absent.tflite", "--manifest", "clean.jsonl"], "absent.tflite: cannot be read"),
        (["absent.json", "--manifest", "clean.jsonl"], "absent.json: No such file"),
        (["float.tflite", *SETS, *SETS[:2]], "clean.jsonl more than once"),
        (["float.tflite", *SETS, "--normalize", "numbers"], "got 'numbers'"),
        (["float.tflite", *SETS, "--save", "absent/a.json"], "--save: expected a .json file in an"),
        (["float.tflite", *SETS, "--differences", "-1"], "expected 0 or more, got -1"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, message):
    done = evaluate(folder, *arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("asr-qat evaluate: error: ") and message in done.stderr


def test_labels():
    def file(path, one="encoder", search="greedy", saved_in=None):
        return {"path": path, "pass": one, "search": search, "saved_in": saved_in}

    assert labels([file("a/x.tflite"), file("a/y.tflite")]) == ["x.tflite", "y.tflite"]
    assert labels([file("a/x.tflite"), file("b/x.tflite")]) == ["a/x.tflite", "b/x.tflite"]
    assert labels([file("x.tflite"), file("x.tflite", "second")]) == [
        *("x.tflite (encoder)", "x.tflite (second)")
    ]
    assert labels([file("x.tflite"), file("x.tflite", search="beam 8")]) == [
        *("x.tflite (greedy)", "x.tflite (beam 8)")
    ]


def test_p_text():
    assert [p_text(p) for p in (0.0, 0.0004, 0.0314, 1.0)] == ["<0.001", "<0.001", "0.031", "1.000"]


def test_a_search_with_a_phrase_beside_greedy_search(folder, saved):
    pieces = Recognizer(folder / "int4.tflite").pieces
    word = next(p for p in pieces[1:] if p.strip("▁ ").isalpha()).strip("▁ ")
    (folder / "phrases.txt").write_text(f"{word}\t20\n")
    search = ("--search", "time_synchronous", "--beam", "2", "--phrases", "phrases.txt")
    done = evaluate(folder, "both.json", "int4.tflite", *SETS, *search, "--json")
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    assert [f["search"] for f in files] == [
        *["greedy"] * 2,
        "time synchronous 2, phrases phrases.txt",
    ]
    heard = [" ".join(row["text"] for row in f["utterances"]).count(word) for f in files[1:]]
    assert heard[1] > heard[0]
