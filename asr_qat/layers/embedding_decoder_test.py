import numpy as np
import pytest
from keras import ops

from asr_qat.layers.embedding_decoder import EmbeddingDecoder
from asr_qat.testing import weight_gradients

LABELS = np.array([[3, 1, 4, 1, 5], [2, 0, 0, 6, 6]], np.int32)


def decoder(history=2, heads=3, **kwargs):
    layer = EmbeddingDecoder(7, 16, history=history, heads=heads, **kwargs)
    layer.build()
    return layer


def reference(layer, last):
    """One prediction, head by head and label by label (US 2023/0298569 A1); last: oldest first."""
    weights = {
        w.path.split("/", 1)[1]: ops.convert_to_numpy(w).astype(float) for w in layer.weights
    }
    total = np.zeros(layer.dim)
    for head in range(layer.heads):
        for n, label in enumerate(last):
            embedding = weights["table"][label]
            total += embedding * (embedding @ weights["positions"][head, n])
    average = total / (layer.heads * layer.history)
    x = average @ weights["project/kernel"] + weights["project/bias"]
    x = x / (1 + np.exp(-x))
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return x * weights["norm/gamma"] + weights["norm/beta"]


@pytest.mark.parametrize("history", [1, 2, 4])
def test_equals_the_formula_head_by_head(history):
    layer = decoder(history)
    y = ops.convert_to_numpy(layer(LABELS))
    assert y.shape == (2, 6, 16)
    for row, labels in enumerate(LABELS):
        padded = [0] * history + labels.tolist()
        for u in range(6):
            expected = reference(layer, padded[u : u + history])
            np.testing.assert_allclose(y[row, u], expected, atol=1e-4)


@pytest.mark.parametrize("history", [1, 2, 4])
def test_call_is_step_label_by_label_after_blank(history):
    layer = decoder(history)
    state, steps = layer.initial_state(2), []
    for label in np.pad(LABELS, ((0, 0), (1, 0))).T:
        y, state = layer.step(ops.convert_to_tensor(label), state)
        steps.append(ops.convert_to_numpy(y))
    whole = ops.convert_to_numpy(layer(LABELS))
    np.testing.assert_allclose(np.stack(steps, 1), whole, atol=1e-5)


def test_gradients_flow_and_the_configuration_round_trips():
    layer = decoder(3, 2, precision="dynamic_wi4_afp32")
    weighting = np.random.default_rng(0).normal(size=(2, 6, 16)).astype(np.float32)
    for path, gradient in weight_gradients(layer, LABELS, weighting).items():
        assert np.isfinite(gradient).all() and np.any(gradient != 0), path
    copy = EmbeddingDecoder.from_config(layer.get_config())
    copy.build()
    copy.set_weights(layer.get_weights())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(
        ops.convert_to_numpy(copy(LABELS)), ops.convert_to_numpy(layer(LABELS))
    )
