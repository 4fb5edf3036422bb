import numpy as np
import pytest

from asr_qat.layers.recurrent import CELLS
from asr_qat.layers.recurrent_decoder import RecurrentDecoder
from asr_qat.testing import check_prediction_network

LABELS = np.array([[3, 1, 4, 1, 5], [2, 0, 0, 6, 6]], np.int32)


def decoder(cell="lstm", **kwargs):
    layer = RecurrentDecoder(
        7, 6, cell, **{"units": 12, "projection": 5, **kwargs}, name="prediction"
    )
    layer.build()
    rng = np.random.default_rng(0)
    for weight in layer.trainable_variables:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape).astype(np.float32))
    return layer


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision", ["float32", "dynamic_wi4_afp32"])
@pytest.mark.parametrize(("projection", "layers"), [(0, 1), (5, 2)])
def test_contract_of_a_prediction_network(cell, precision, projection, layers):
    layer = decoder(cell, precision=precision, projection=projection, layers=layers)
    assert layer.dim == (projection or 12)
    check_prediction_network(layer, LABELS)


def test_states_are_nested_by_layer_and_start_as_zeros():
    state = decoder("lstm", layers=2).initial_state(3)
    assert {k: {n: tuple(v.shape) for n, v in s.items()} for k, s in state.items()} == {
        f"layer_{i}": {"output": (3, 5), "cell": (3, 12)} for i in range(2)
    }
    assert not any(np.any(v) for s in state.values() for v in s.values())


def test_the_names_of_weights():
    paths = [w.path for w in decoder("sru", layers=1).weights]
    assert paths == [
        "prediction/table",
        "prediction/layer_0/cell/forget",
        "prediction/layer_0/cell/reset",
        "prediction/layer_0/cell/gates/kernel",
        "prediction/layer_0/cell/norm/scale",
        "prediction/layer_0/cell/norm/bias",
        "prediction/layer_0/cell/project/kernel",
    ]


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match="0 recurrent layers; expected at least 1"):
        RecurrentDecoder(7, layers=0)
