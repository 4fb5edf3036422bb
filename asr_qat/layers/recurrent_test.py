"""Cells over time: loop and steps agree, and training compiles on both backends."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.layers.recurrent import CELLS, Recurrent
from asr_qat.testing import (
    call_in_chunks,
    check_streaming_layer,
    gradient_of,
    weight_gradients,
)

X = np.random.default_rng(0).normal(size=(2, 12, 6)).astype(np.float32)


def built(*args, **kwargs):
    layer = Recurrent(*args, **kwargs)
    layer.build((None, None, 6))
    return layer


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("projection", "layer_norm"), [(0, False), (5, False), (5, True)])
def test_streaming_contract(cell, projection, layer_norm):
    check_streaming_layer(Recurrent(cell, 8, projection, layer_norm), (12, 6), (1, 3, 4))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision", ["dynamic_wi4_afp32", "weight_only_wi4_afp32"])
def test_integers_are_the_same_in_a_loop_and_step_by_step(cell, precision):
    check_streaming_layer(Recurrent(cell, 16, 5, True, precision=precision), (12, 6), (1, 4))


def test_the_widths_and_names_of_weights():
    layer = built("lstm", 8, 5, True, name="layer_0")
    assert layer.width == 5
    assert [w.path for w in layer.weights] == [
        "layer_0/cell/gates/kernel",
        "layer_0/cell/norm/scale",
        "layer_0/cell/norm/bias",
        "layer_0/cell/project/kernel",
    ]
    assert built("sru", 8).width == 8


def test_an_unknown_cell_is_refused():
    with pytest.raises(ValueError, match="recurrent cell 'gru'; expected one of: lstm, cifg, sru"):
        Recurrent("gru", 8)


def test_dropout_only_in_training():
    layer = built("lstm", 8, dropout=0.5)
    before, after = (ops.convert_to_numpy(layer(X)) for _ in range(2))
    np.testing.assert_array_equal(before, after)
    assert np.any(ops.convert_to_numpy(layer(X, training=True)) != before)


class InTraining(keras.layers.Layer):
    """A layer that is always called as in training."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x, training=True)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision", ["float32", "dynamic_wi4_afp32", "weight_only_wi4_afp32"])
@pytest.mark.parametrize(("projection", "layer_norm"), [(0, False), (5, True)])
def test_gradients_in_training_are_those_through_the_loop(cell, precision, projection, layer_norm):
    """In training the weights of the loop's products get their gradients past the loop."""
    layer = built(cell, 8, projection, layer_norm, precision=precision)
    weighting = np.random.default_rng(1).normal(size=(2, 12, layer.width)).astype(np.float32)
    in_training = InTraining(layer)
    in_training.build(X.shape)
    gradients = weight_gradients(in_training, X, weighting)
    for path, expected in weight_gradients(layer, X, weighting).items():
        assert np.any(expected != 0), path
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradients[path] / scale, expected / scale, atol=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(X, training=True)), ops.convert_to_numpy(layer(X)), atol=1e-6
    )


def test_inputs_get_the_same_gradients_in_training():
    layer = built("lstm", 8, 5, True, precision="dynamic_wi4_afp32")

    def gradient(training):
        return gradient_of(lambda x: ops.sum(layer(x, training=training) * X[..., :5]), X)

    in_training, through_loop = gradient(True), gradient(False)
    np.testing.assert_allclose(in_training, through_loop, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_ranges_are_those_of_all_frames(cell):
    layer = built(cell, 8, 5, precision="static_wi4_ai8")
    layer(X, training=True)
    cell = layer.cell
    assert cell.gates.product.ranges_known() and cell.project.product.ranges_known()
    low, high = ops.convert_to_numpy(cell.gates.product.input_range.value)
    assert low <= X.min() and X.max() <= high
    whole = ops.convert_to_numpy(layer(X))
    np.testing.assert_allclose(call_in_chunks(layer, X, 4), whole, atol=1e-5)


TRAINING = """
import keras, numpy as np
from asr_qat.layers.recurrent import Recurrent
assert keras.backend.backend() == "{backend}"
rng = np.random.default_rng(0)
x = rng.normal(size=(6, 20, 6)).astype("float32")
y = np.cumsum(x, 1) / np.arange(1, 21)[:, None]
recipes = {{"lstm": "static_wi4_ai8", "cifg": "dynamic_wi4_afp32", "sru": "static_wi4_ai8"}}
for cell, precision in recipes.items():
    layer = Recurrent(cell, 16, 6, True, 0.05, precision)
    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=True)
    losses = model.fit(x, y, batch_size=3, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0], (cell, losses)
    if precision.startswith("static"):
        assert layer.cell.gates.product.ranges_known()
    assert np.isfinite(model.predict(x[:3, :11], verbose=0)).all()
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_trains_compiled(backend):
    pytest.importorskip(backend)
    run = subprocess.run(
        [sys.executable, "-c", TRAINING.format(backend=backend)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]
