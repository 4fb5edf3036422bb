"""Tests of reading model files: what is accepted, and that nothing damaged is."""

import json
import time

import numpy as np
import pytest

from asr_qat.export.flatbuffer import write_model
from asr_qat.export.metadata import attach
from asr_qat.export.testing import ModelBuilder, tiny_float_model, tiny_metadata
from asr_qat.runtime.model_file import (
    DIGEST_NAME,
    METADATA_NAME,
    ModelFileError,
    digest_of,
    load_model_file,
    load_recognizer_file,
    metadata_spans,
    parse,
)
from asr_qat.runtime.recognizer import Recognizer


@pytest.fixture(scope="module")
def content():
    return attach(tiny_float_model()[0], tiny_metadata())


def test_reads_what_attach_wrote(content, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    model = load_model_file(str(path))
    assert model.metadata == tiny_metadata() and model.content == content and model.path == path
    assert model.pieces[0] == "<blank>"


def test_digest_covers_every_other_byte(content):
    offset, length = metadata_spans(content)[DIGEST_NAME]
    assert length == 32 and content[offset : offset + 32] == digest_of(content, offset)
    changed = bytearray(content)
    changed[offset + 5] ^= 255
    assert digest_of(changed, offset) == digest_of(content, offset)
    changed[offset + 32] ^= 1
    assert digest_of(changed, offset) != digest_of(content, offset)


def test_truncation_at_any_length_is_refused(content):
    rng = np.random.default_rng(0)
    lengths = {
        *range(0, 200),
        *range(len(content) - 200, len(content)),
        *rng.integers(0, len(content), 500).tolist(),
    }
    for length in sorted(lengths):
        with pytest.raises(ModelFileError):
            parse(content[:length])


def test_every_flipped_bit_is_refused(content):
    rng = np.random.default_rng(1)
    positions = {*range(0, 128), *rng.integers(0, len(content), 800).tolist()}
    start, length = metadata_spans(content)[METADATA_NAME]
    positions |= set(range(start - 8, start + 8)) | set(range(len(content) - 64, len(content)))
    for position in sorted(positions):
        changed = bytearray(content)
        changed[position] ^= 1 << int(rng.integers(8))
        with pytest.raises(ModelFileError):
            parse(bytes(changed))


def test_random_bytes_behind_a_good_identifier_are_refused():
    rng = np.random.default_rng(2)
    for _ in range(300):
        size = int(rng.integers(0, 400))
        with pytest.raises(ModelFileError):
            parse(rng.bytes(4) + b"TFL3" + rng.bytes(size))
    small = bytes([16, 0, 0, 0]) + b"TFL3"
    for _ in range(300):  # small numbers look more like offsets
        with pytest.raises(ModelFileError):
            parse(small + rng.integers(0, 24, 200).astype(np.uint8).tobytes())


def test_appended_bytes_are_refused(content):
    with pytest.raises(ModelFileError, match="truncated or damaged"):
        parse(content + b"\0")


def test_a_tflite_file_of_others_is_named_as_such(tmp_path):
    path = tmp_path / "other.tflite"
    path.write_bytes(tiny_float_model()[0])
    with pytest.raises(
        ModelFileError,
        match=r"other.tflite: has no asr_qat metadata; was it "
        r"written by `asr-qat export`\?",
    ):
        load_model_file(path)


def test_files_that_are_not_tflite(tmp_path):
    path = tmp_path / "x.tflite"
    with pytest.raises(ModelFileError, match="cannot be read: No such file"):
        load_model_file(path)
    with pytest.raises(ModelFileError, match="cannot be read: Is a directory"):
        load_model_file(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"is not a .tflite file.*0 bytes"):
        load_model_file(path)


def resealed(metadata):
    """A file with any metadata at all, digest correct."""
    content = attach(tiny_float_model()[0], {**tiny_metadata(), "training": "room" * 100})
    start, length = metadata_spans(content)[METADATA_NAME]
    document = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    changed = bytearray(content)
    changed[start : start + length] = document.ljust(length)
    offset = metadata_spans(content)[DIGEST_NAME][0]
    changed[offset : offset + 32] = digest_of(changed, offset)
    return bytes(changed)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (b"{not json", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ([1], "without a format number"),
        ({"producer": "x"}, "without a format number"),
        ({**tiny_metadata(), "format": 2, "producer": "asr_qat 9"}, "format 2.*asr_qat 9"),
        ({**tiny_metadata(), "chunk_samples": "5120"}, "'chunk_samples' is '5120'; expected int"),
        ({**tiny_metadata(), "sample_rate": 0}, "'sample_rate' is 0; expected >= 1"),
        ({**tiny_metadata(), "vocabulary": {}}, "without a list of vocabulary pieces"),
        ({**tiny_metadata(), "vocabulary": {"pieces": [1]}}, "list of vocabulary pieces"),
        ({**tiny_metadata(), "ends": {}}, "'ends' is {}; expected a list"),
        ({**tiny_metadata(), "ends": ["eou"]}, "expected a list"),
        ({**tiny_metadata(), "ends": [{"kind": ["x"]}]}, "of the kind .*; expected one of"),
        (
            {**tiny_metadata(), "ends": [{"kind": "segment", "name": "eos", "signature": "eos"}]},
            "expected 'reads' to be str",
        ),
        (
            {**tiny_metadata(), "ends": [{"kind": "endpointer", "name": "a", "signature": "a"}]},
            "expected 'encoder' to be str",
        ),
    ],
)
def test_metadata_of_another_kind_is_refused(metadata, message):
    with pytest.raises(ModelFileError, match=message):
        parse(resealed(metadata))


def test_a_file_of_another_model_is_no_recogniser(tmp_path):
    path, metadata = tmp_path / "m.tflite", {"format": 1, "kind": "model", "producer": "x"}
    path.write_bytes(attach(tiny_float_model()[0], metadata))
    file = load_model_file(path)
    assert file.metadata == metadata and not file.is_recognizer
    for load in (load_recognizer_file, Recognizer):
        with pytest.raises(ModelFileError, match="m.tflite: is a model, not a recogniser"):
            load(path)
    path.write_bytes(attach(tiny_float_model()[0], tiny_metadata()))
    assert load_recognizer_file(path).is_recognizer


def test_a_large_file_is_checked_quickly():
    builder = ModelBuilder()
    builder.begin()
    x = builder.tensor([1, 1000])
    y = builder.dense(x, np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32), 1)
    builder.end("encoder", {"x": x}, {"y": y})
    content = attach(write_model(builder.model), tiny_metadata())
    assert len(content) > 4_000_000
    start = time.perf_counter()
    parse(content)
    assert time.perf_counter() - start < 0.05
