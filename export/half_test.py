"""Float16 storage: nothing is lost, small things stay, and a model gets its weights back."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from asr_qat.export.compact import compact
from asr_qat.export.flatbuffer import list_operators, read_model, write_model
from asr_qat.export.half import SMALLEST, as_float16, rounded_to_float16, store_halves
from asr_qat.export.testing import ModelBuilder

FLOAT16 = schema.TensorType.FLOAT16
RNG = np.random.default_rng(0)


def halves(*shape):
    return RNG.normal(size=shape).astype(np.float16).astype(np.float32)


def product(weight):
    b = ModelBuilder()
    b.begin()
    x = b.tensor([2, weight.shape[0]])
    b.end("main", {"x": x}, {"y": b.dense(x, weight, 2)})
    return b.model


def run(content, x):
    return Interpreter(model_content=content).get_signature_runner("main")(x=x)["y"]


def test_numbers_of_float16_are_stored_as_such():
    model = product(halves(64, 48))
    before = write_model(model)
    store_halves(model)
    compact(model)
    after = write_model(model)
    assert len(before) - len(after) == pytest.approx(2 * 64 * 48, abs=300)
    assert list_operators(after) == [["DEQUANTIZE", "FULLY_CONNECTED"]]
    types = [t.type for t in read_model(after).subgraphs[0].tensors]
    assert types.count(FLOAT16) == 1
    x = RNG.normal(size=(2, 64)).astype(np.float32)
    np.testing.assert_array_equal(run(after, x), run(before, x))


@pytest.mark.parametrize(
    "weight",
    [
        RNG.normal(size=(64, 48)).astype(np.float32),  # other numbers
        halves(SMALLEST // 16 - 1, 16),  # too few
        np.full((64, 48), 1e6, np.float32),  # too large
        np.full((64, 48), np.nan, np.float32),
    ],
    ids=["float32", "small", "large", "nan"],
)
def test_all_else_stays(weight):
    model = product(weight)
    store_halves(model)
    assert list_operators(write_model(model)) == [["FULLY_CONNECTED"]]


def test_a_constant_of_two_graphs_is_stored_once():
    weight = halves(64, 48)
    b = ModelBuilder()
    for name in ("a", "b"):
        b.begin()
        x = b.tensor([2, 64])
        b.end(name, {"x": x}, {"y": b.dense(x, weight, 2)})
    compact(b.model)
    store_halves(b.model)
    compact(b.model)
    model = read_model(write_model(b.model))
    stored = [t.buffer for g in model.subgraphs for t in g.tensors if t.type == FLOAT16]
    assert len(stored) == 2 and len(set(stored)) == 1
    assert sum(len(buffer.data) > 2000 for buffer in model.buffers if buffer.data is not None) == 1


def test_the_nearest_float16_and_no_infinities():
    values = np.array([1.0, 1 + 2**-12, 70000.0, -1e30, 1e-9, 0.1], np.float32)
    found = as_float16(values)
    assert found.dtype == np.float16
    assert found[:5].tolist() == [1.0, 1.0, 65504.0, -65504.0, 0.0]
    np.testing.assert_array_equal(found[5], np.float16(0.1))


def test_a_model_is_rounded_for_a_while():
    layer = keras.layers.Dense(3)
    layer.build((None, 5))
    before = layer.get_weights()
    with pytest.raises(KeyError), rounded_to_float16(layer.variables):
        for value in layer.get_weights():
            np.testing.assert_array_equal(value, as_float16(value).astype(np.float32))
        assert not np.array_equal(layer.get_weights()[0], before[0])
        raise KeyError
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_biases_and_constants_that_nothing_reads_stay_as_they_are():
    b = ModelBuilder()
    b.begin()
    x = b.tensor([2, 64])
    b.constant(np.ones(600, np.float32))
    b.end("f", {"x": x}, {"y": b.dense(x, np.ones((64, 600), np.float32), 2)})
    store_halves(b.model)
    assert list_operators(write_model(b.model)) == [["DEQUANTIZE", "FULLY_CONNECTED"]]
    types = [t.type for t in b.model.subgraphs[0].tensors]
    assert types.count(FLOAT16) == 1
