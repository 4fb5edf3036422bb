import numpy as np
import pytest
from keras import ops

from asr_qat.layers.recurrent import CELLS
from asr_qat.layers.recurrent_decoder import RecurrentDecoder
from asr_qat.testing import weight_gradients

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
@pytest.mark.parametrize("projection", [0, 5])
def test_call_is_step_label_by_label_after_blank(cell, precision, projection):
    layer = decoder(cell, precision=precision, projection=projection)
    state, steps = layer.initial_state(2), []
    for label in np.pad(LABELS, ((0, 0), (1, 0))).T:
        y, state = layer.step(ops.convert_to_tensor(label), state)
        steps.append(ops.convert_to_numpy(y))
    whole = ops.convert_to_numpy(layer(LABELS))
    assert whole.shape == (2, 6, layer.dim) and layer.dim == (projection or 12)
    np.testing.assert_allclose(np.stack(steps, 1), whole, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_later_labels_do_not_change_earlier_predictions(cell):
    layer = decoder(cell)
    changed = LABELS.copy()
    changed[:, 3:] = 2
    before, after = (ops.convert_to_numpy(layer(v)) for v in (LABELS, changed))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.any(before[:, 4:] != after[:, 4:])


def test_states_are_nested_by_layer_and_start_as_zeros():
    state = decoder("lstm", layers=2).initial_state(3)
    assert {k: {n: tuple(v.shape) for n, v in s.items()} for k, s in state.items()} == {
        f"layer_{i}": {"output": (3, 5), "cell": (3, 12)} for i in range(2)
    }
    assert not any(np.any(v) for s in state.values() for v in s.values())


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_flow_and_the_configuration_round_trips(cell):
    layer = decoder(cell, precision="dynamic_wi4_afp32", layers=2)
    weighting = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    for path, gradient in weight_gradients(layer, LABELS, weighting).items():
        assert np.isfinite(gradient).all() and np.any(gradient != 0), path
    copy = RecurrentDecoder.from_config(layer.get_config())
    copy.build()
    copy.set_weights(layer.get_weights())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(
        ops.convert_to_numpy(copy(LABELS)), ops.convert_to_numpy(layer(LABELS))
    )


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
