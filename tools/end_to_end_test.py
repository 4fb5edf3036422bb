"""The whole path through the real command line, on a model too small to recognise anything."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asr_qat.data.manifest import read_manifest, write_manifest
from asr_qat.tools.main import console

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def python(*arguments, cwd=None):
    """In a process where XLA optimizes little: it takes most of the time of so short trainings."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "XLA_FLAGS": flags},
    )


def command(*arguments, cwd=None):
    return python("-m", "asr_qat.tools.main", *arguments, cwd=cwd)


def document(*arguments):
    done = command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    pytest.importorskip("espeakng_loader")
    out = tmp_path_factory.mktemp("demo")
    small = ("--train", 64, "--test", 8, "--preset", "nano", "--float-epochs", 1, "--epochs", 1)
    done = command("demo", "--out", out, *small)
    assert done.returncode == 0, done.stderr
    return out, done


def test_the_demo_reports_everything(demo):
    out, done = demo
    report = json.loads((out / "report.json").read_text())
    for name in ("float", "int4", "ptq_int4"):
        assert 0 <= report[name]["wer"] and report[name]["words"] > 0
        assert report[name]["bytes"] == (out / f"{name}.tflite").stat().st_size
        assert report[name]["rtf"] > 0
    assert report["encoder_bytes"]["int4"] < 0.25 * report["encoder_bytes"]["float"]
    parity = report["parity"]
    assert parity["layers_bit_equal"] == parity["layers_total"] == 14
    assert parity["transcripts_total"] == 8
    assert (out / "report.png").read_bytes()[:4] == b"\x89PNG"
    assert "int4.tflite" in done.stdout and "layers bit-equal" in done.stdout
    assert "dynamic_wi4_afp32" in done.stderr  # the table of precisions, before training


def test_the_voices_of_the_test_are_new(demo):
    out, _ = demo
    timbres = {
        split: {u.speaker.partition("+")[2] for u in read_manifest(out / f"corpus/{split}.jsonl")}
        for split in ("train", "test")
    }
    assert not timbres["train"] & timbres["test"]


def test_verify_inspect_evaluate_transcribe_benchmark(demo):
    out, _ = demo
    file, test = out / "int4.tflite", out / "corpus" / "test.jsonl"
    proof = document("verify", file, "--model", out / "int4" / "model.keras")
    assert proof["passed"] and proof["layers_bit_equal"] == 14
    report = document("inspect", file)
    assert {part["name"] for part in report["parts"]} >= {"frontend", "encoder", "joint"}
    errors = document("evaluate", out / "float.tflite", file, "--manifest", test)
    assert len(errors["files"]) == 2 and errors["files"][1]["minus_first"] is not None
    assert len(errors["files"][0]["utterances"]) == 8
    words = document("transcribe", file, test)
    texts = [row["text"] for row in errors["files"][1]["utterances"]]
    assert [row["text"] for row in words["utterances"]] == texts
    speed = document("benchmark", file, "--threads", "1", "--rounds", 1)
    assert speed["results"][0]["delegated"]["encoder"] == 1.0


def test_train_and_export_on_their_own(demo, tmp_path):
    out, _ = demo
    corpus = out / "corpus" / "dev.jsonl"
    common = ("--train", corpus, "--preset", "nano", "--epochs", 1, "--bucket-seconds", "7")
    record = document(
        "train",
        *common,
        "--out",
        tmp_path / "run",
        "--recipe",
        "dynamic_wi4_afp32",
        "--rule",
        "encoder/subsampling/=dynamic_wi8_afp32",
        "--set",
        "encoder.kernel_size=3",
        "--no-augment",
    )
    assert len(record["policy"]) == 2 and record["steps"] == 2
    more = ("--chunk-ms", "320,80", "--utterance", "--float16", "--rule", "joint/=wi4_ai4")
    written = document("export", record["model"], "--out", tmp_path / "m.tflite", *more)
    assert written["parity"]["exact"]
    recipes = {layer["recipe"] for layer in written["parity"]["layers"]}
    assert recipes == {
        *("dynamic_wi4_afp32", "dynamic_wi8_afp32", "wi4_ai4", "float32"),
        "weight_only_wi8_afp32",  # the depthwise kernel
    }
    names = {part["name"] for part in document("inspect", tmp_path / "m.tflite")["parts"]}
    assert {"encoder", "encoder_80ms", "recognize_chunk_80ms", "encode_utterance"} <= names
    proof = document("verify", tmp_path / "m.tflite", "--model", record["model"])
    assert proof["passed"] and proof["layers_total"] == 14
    done = command(
        "verify", tmp_path / "m.tflite", "--model", out / "int4" / "model.keras"
    )  # another model
    assert done.returncode == 1
    assert "error: " in done.stderr or "FAIL" in done.stdout


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    recordings = read_manifest(ROOT / "testdata" / "manifest.jsonl")
    path = tmp_path_factory.mktemp("manifest") / "m.jsonl"
    write_manifest(path, recordings)
    return path


TRAIN = ("train", "--out", "run", "--preset", "nano", "--epochs", 1, "--train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TRAIN, "empty.jsonl"), "empty.jsonl"),
        ((*TRAIN, "absent.jsonl"), "absent.jsonl"),
        (
            (*TRAIN, "m.jsonl", "--recipe", "dynamic_wi3_afp32"),
            "unknown recipe 'dynamic_wi3_afp32'",
        ),
        (
            (*TRAIN, "m.jsonl", "--rule", "decoder/lstm=dynamic_wi8_afp32"),
            "rule 'decoder/lstm' -> dynamic_wi8_afp32 matches no layer",
        ),
        ((*TRAIN, "m.jsonl", "--rule", "encoder"), "expected 'pattern=recipe'"),
        ((*TRAIN, "m.jsonl", "--preset", "huge"), "unknown preset 'huge'"),
        ((*TRAIN, "m.jsonl", "--set", "encoder.size=3"), "no field 'size'"),
        ((*TRAIN, "m.jsonl", "--valid", "odd.jsonl"), "'@'"),
        ((*TRAIN, "broken.jsonl"), "broken.wav"),
        (("export", "absent.keras", "--out", "x.tflite"), "absent.keras: no such file"),
        (("verify", "cut.tflite", "--model", "x.keras"), "truncated"),
        (("evaluate", "foreign.tflite", "--manifest", "m.jsonl"), "no asr_qat metadata"),
        (("transcribe", "cut.tflite", "a.wav"), "truncated"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(
    arguments, message, manifest, tmp_path, monkeypatch, capfd
):
    from asr_qat.export.testing import tiny_float_model, write_tiny_recognizer

    rows = manifest.read_text()
    (tmp_path / "m.jsonl").write_text(rows)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "odd.jsonl").write_text(re.sub('"text": "[^"]*"', '"text": "o@"', rows))
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    row = {
        "audio_filepath": "broken.wav",
        "duration": 1.0,
        "text": "one",
        "speaker": "s",
        "id": "b",
    }
    (tmp_path / "broken.jsonl").write_text(json.dumps(row) + "\n")
    write_tiny_recognizer(tmp_path / "tiny.tflite")
    content = (tmp_path / "tiny.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    (tmp_path / "foreign.tflite").write_bytes(tiny_float_model()[0])
    before = set(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["asr-qat", *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as done:  # in this process: a new one would load for seconds
        console()
    out, err = capfd.readouterr()
    assert done.value.code == 1, err
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"asr-qat {arguments[0]}: error: ") and message in last
    assert "Traceback" not in err and out == ""
    assert {path.name for path in set(tmp_path.iterdir()) - before} <= {"run"}
    assert not (tmp_path / "run" / "model.keras").exists()


def test_the_script_in_the_readme_runs(manifest, tmp_path):
    code = re.search(r"```python\n(import keras.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert code is not None
    script = code.group(1)
    assert len(script.splitlines()) < 30
    for old, new in (('preset("digits")', 'preset("nano")'), ("epochs=20", "epochs=1")):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "train.jsonl").write_text(manifest.read_text())
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "14 of 14 layers bit-equal" in done.stdout
    assert (tmp_path / "model.keras").exists() and (tmp_path / "model.tflite").exists()
