"""Tests of `asr-qat inspect` through the real command line."""

import json
import subprocess
import sys
import zlib

import pytest

from asr_qat.export.testing import tiny_float_model, write_tiny_recognizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    write_tiny_recognizer(folder / "model.tflite")
    write_tiny_recognizer(folder / "float.tflite", bits=32)
    content = (folder / "model.tflite").read_bytes()
    (folder / "short.tflite").write_bytes(content[:-100])
    (folder / "other.tflite").write_bytes(tiny_float_model()[0])
    (folder / "othershort.tflite").write_bytes(tiny_float_model()[0][:9000])
    return folder


def inspect(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "asr_qat.tools.inspect", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
    )


def test_text_of_one_file(folder):
    done = inspect(folder, "model.tflite")
    assert done.returncode == 0 and done.stderr == ""
    content = (folder / "model.tflite").read_bytes()
    compressed = len(zlib.compress(content, 9))
    first = f"model.tflite: {len(content):,} bytes, {compressed:,} compressed (zlib, "
    assert done.stdout.startswith(first)
    assert "16000 Hz, 80 ms a chunk, 7 labels (characters)" in done.stdout
    assert "encoder weights 2,916 bytes" in done.stdout
    assert "not delegated: GATHER 1; 1 XNNPACK partition(s)" in done.stdout
    assert "INT4     16x320" in done.stdout
    assert "stored once, used by 3 signatures: encoder, prediction, joint" in done.stdout
    assert "zero points" in done.stdout
    assert "16x320" not in inspect(folder, "model.tflite", "--no-tensors").stdout


def test_files_of_others_are_called_unverified(folder):
    done = inspect(folder, "other.tflite")
    assert done.returncode == 0 and done.stderr == ""
    assert "unverified, nothing vouches for its contents" in done.stdout
    assert "joint: FULLY_CONNECTED 2, ADD 1, TANH 1" in done.stdout


def test_text_of_several_files(folder):
    done = inspect(folder, "float.tflite", "model.tflite", "other.tflite")
    assert done.returncode == 0 and done.stderr == ""
    rows = {" ".join(line.split()) for line in done.stdout.splitlines()}
    size = (folder / "model.tflite").stat().st_size
    base = (folder / "float.tflite").stat().st_size
    compressed = len(zlib.compress((folder / "model.tflite").read_bytes(), 9))
    start = f"[2] model.tflite {size:,} {size / base:.3f} {compressed:,} "
    assert any(r.startswith(start) for r in rows)
    assert "INT4 0 2,816 - 0 -" in rows
    changed = "encoder FLOAT32 16x320 20,480 INT4 16x320 2,624 FLOAT32 16x320 20,480"
    assert any(row.endswith(changed) for row in rows)
    assert "operators and delegation are the same" in rows


def test_json(folder):
    document = json.loads(inspect(folder, "model.tflite", "--json").stdout)
    compressed = len(zlib.compress((folder / "model.tflite").read_bytes(), 9))
    assert document["compressed_bytes"] == compressed < document["file_bytes"]
    assert document["encoder_weight_bytes"] == 2916 and document["verified"] is True
    encoder = next(part for part in document["parts"] if part["name"] == "encoder")
    assert encoder["delegation"]["share"] == 1.0
    assert document["metadata"]["vocabulary"]["pieces"][0] == "<blank>"
    weight = next(t for t in document["tensors"] if t["shape"] == [16, 320])
    assert weight["type"] == "INT4" and weight["bits_per_parameter"] == 4.1
    counted = sum(c["totals"]["weight_bytes"] for c in document["components"])
    assert counted + document["overhead"]["bytes"] == document["file_bytes"]
    done = inspect(folder, "other.tflite", "model.tflite", "--json", "--no-tensors")
    document = json.loads(done.stdout)
    assert [file["verified"] for file in document["files"]] == [False, True]
    assert "tensors" not in document["files"][0]
    assert document["comparison"]["ratio_to_first"][0] == 1


def test_picture(folder, tmp_path):
    pytest.importorskip("matplotlib")
    done = inspect(folder, "model.tflite", "--picture", str(tmp_path / "a.svg"), "--json")
    assert done.returncode == 0 and done.stderr == f"wrote {tmp_path / 'a.svg'}\n"
    assert json.loads(done.stdout)["verified"] and (tmp_path / "a.svg").exists()
    done = inspect(folder, "model.tflite", "--picture", str(tmp_path / "a.txt"))
    assert done.returncode == 1 and done.stdout == "" and "name ending in .png" in done.stderr


@pytest.mark.parametrize("name", ["short.tflite", "othershort.tflite"])
def test_damaged_files_are_one_line(folder, name):
    for arguments in ([name], ["model.tflite", name, "--json"]):
        done = inspect(folder, *arguments)
        assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"asr-qat inspect: error: {name}: is truncated or damaged")
