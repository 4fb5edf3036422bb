import numpy as np
import pytest
from keras import ops

from asr_qat.layers.embedding_decoder import EmbeddingDecoder
from asr_qat.testing import check_prediction_network

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


@pytest.mark.parametrize("precision", ["float32", "dynamic_wi4_afp32"])
@pytest.mark.parametrize("history", [1, 2, 4])
def test_contract_of_a_prediction_network(history, precision):
    check_prediction_network(decoder(history, 2, precision=precision), LABELS)


def test_positions_may_stay_as_they_were_drawn():
    fixed, learned = (decoder(train_positions=train) for train in (False, True))
    names = [{w.name for w in layer.trainable_variables} for layer in (fixed, learned)]
    assert names[1] - names[0] == {"positions"}
    check_prediction_network(fixed, LABELS)
