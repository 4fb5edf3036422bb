"""Tests of `asr-qat inspect` through the real command line."""

import json
import subprocess
import sys

import pytest

from asr_qat.export.testing import tiny_float_model, write_tiny_recognizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    write_tiny_recognizer(folder / "model.tflite")
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


def test_text(folder):
    done = inspect(folder, "model.tflite", "--tensors")
    assert done.returncode == 0 and done.stderr == ""
    assert "16000 Hz, 80 ms a chunk, 7 labels (characters)" in done.stdout
    assert "encoder weights 2,916 bytes" in done.stdout
    assert "not delegated: GATHER 1; 1 XNNPACK partition(s)" in done.stdout
    assert "INT4     16x320" in done.stdout


def test_json(folder):
    document = json.loads(inspect(folder, "model.tflite", "--json").stdout)
    assert document["encoder_weight_bytes"] == 2916 and "tensors" not in document
    encoder = next(part for part in document["parts"] if part["name"] == "encoder")
    assert encoder["delegation"]["share"] == 1.0
    assert document["metadata"]["vocabulary"]["pieces"][0] == "<blank>"
    document = json.loads(inspect(folder, "other.tflite", "--json", "--tensors").stdout)
    assert document["metadata"] is None and document["tensors"]


@pytest.mark.parametrize("name", ["short.tflite", "othershort.tflite"])
def test_damaged_files_are_one_line(folder, name):
    done = inspect(folder, name)
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"asr-qat inspect: error: {name}: is truncated or damaged")
