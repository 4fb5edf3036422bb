"""Tests of writing metadata."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from asr_qat.export.flatbuffer import ExportError, read_model, text
from asr_qat.export.metadata import attach
from asr_qat.export.testing import tiny_float_model, tiny_metadata
from asr_qat.runtime.model_file import parse


def test_round_trip_with_letters_of_every_script():
    metadata = {**tiny_metadata(), "vocabulary": {"pieces": ["<blank>", "▁", "ß", "好", "🙂"]}}
    assert parse(attach(tiny_float_model()[0], metadata)) == metadata


def test_replaces_what_was_there():
    once = attach(tiny_float_model()[0], {**tiny_metadata(), "training": {"note": "x" * 5000}})
    again = attach(once, tiny_metadata())
    assert parse(again) == tiny_metadata() and len(again) < len(once) - 4000
    assert attach(again, tiny_metadata()) == attach(attach(again, tiny_metadata()), tiny_metadata())
    names = [text(entry.name) for entry in read_model(again).metadata]
    assert sorted(names) == ["asr_qat", "asr_qat.sha256"]


def test_the_model_computes_the_same():
    before, _ = tiny_float_model()
    after = attach(before, tiny_metadata())
    x = np.random.default_rng(0).normal(size=(1, 1280)).astype(np.float32)
    state = np.zeros((1, 160), np.float32)
    first, second = (
        Interpreter(model_content=c).get_signature_runner("frontend")(
            samples=x, frontend_state=state
        )
        for c in (before, after)
    )
    assert all(np.array_equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    ("model", "metadata", "message"),
    [
        (b"not a model", tiny_metadata(), "not a .tflite file"),
        (tiny_float_model()[0], {"format": float("nan")}, "cannot be written as JSON"),
        (tiny_float_model()[0], {"format": object()}, "cannot be written as JSON"),
        (tiny_float_model()[0], {"format": 99}, "the written file has asr_qat metadata of format"),
    ],
)
def test_errors(model, metadata, message):
    with pytest.raises(ExportError, match=message):
        attach(model, metadata)
