import numpy as np
import pytest
from keras import ops

from asr_qat.models.stack import ConformerStack, TransformerStack
from asr_qat.models.stack_decoder import StackDecoder
from asr_qat.testing import weight_gradients

LABELS = np.array([[3, 1, 4, 1, 5, 2], [2, 6, 6, 1, 2, 3]], np.int32)
STACKS = {
    "conformer": lambda **k: ConformerStack(16, 1, 2, 2, 2, expansion=2, name="stack", **k),
    "transformer": lambda **k: TransformerStack(16, 2, 2, 2, expansion=2, name="stack", **k),
}


def decoder(name, **kwargs):
    layer = StackDecoder(7, STACKS[name](**kwargs), name="prediction")
    layer.build()
    return layer


@pytest.mark.parametrize("name", STACKS)
def test_call_is_step_label_by_label_after_blank(name):
    layer = decoder(name)
    state, steps = layer.initial_state(2), []
    for label in np.pad(LABELS, ((0, 0), (1, 0))).T:
        y, state = layer.step(ops.convert_to_tensor(label), state)
        steps.append(ops.convert_to_numpy(y))
    whole = ops.convert_to_numpy(layer(LABELS))
    assert whole.shape == (2, 7, 16)
    np.testing.assert_allclose(np.stack(steps, 1), whole, atol=1e-5)


def test_a_bounded_number_of_labels_counts():
    layer = decoder("transformer")  # two blocks, each of which sees two labels before
    changed = LABELS.copy()
    changed[:, 0] = 6
    before, after = (ops.convert_to_numpy(layer(v)) for v in (LABELS, changed))
    apart = np.abs(before - after).max((0, 2))
    assert apart[0] == 0 and (apart[1:6] > 1e-4).all() and apart[6] < 1e-6


@pytest.mark.parametrize("name", STACKS)
def test_gradients_flow_and_the_configuration_round_trips(name):
    layer = decoder(name, precision="dynamic_wi4_afp32")
    weighting = np.random.default_rng(0).normal(size=(2, 7, 16)).astype(np.float32)
    for path, gradient in weight_gradients(layer, LABELS, weighting).items():
        assert np.isfinite(gradient).all() and np.any(gradient != 0), path
    copy = StackDecoder.from_config(layer.get_config())
    copy.build()
    copy.set_weights(layer.get_weights())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(
        ops.convert_to_numpy(copy(LABELS)), ops.convert_to_numpy(layer(LABELS))
    )
