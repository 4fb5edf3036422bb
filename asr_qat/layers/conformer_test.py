import numpy as np
import pytest
from keras import ops

from asr_qat.layers.conformer import ConformerBlock, FeedForward
from asr_qat.quantization.spec import policy
from asr_qat.testing import check_streaming_layer


def test_streaming_contract():
    layer = ConformerBlock(16, heads=2, left_context=4, kernel_size=3, expansion=2)
    check_streaming_layer(layer, (16, 16), (1, 4, 7), future=1e3, tolerance=3e-5)


@pytest.mark.parametrize("precision", ["weight_only_wi4_afp32", "dynamic_wi4_afp32", "wi4_ai4"])
def test_call_is_step_for_integers_but_for_codes_on_an_edge(precision):
    layer = ConformerBlock(16, 2, 4, 3, expansion=2, precision=precision)
    x = np.random.default_rng(0).normal(size=(2, 12, 16)).astype(np.float32)
    whole, state, pieces = ops.convert_to_numpy(layer(x)), layer.initial_state(2), []
    for start in range(0, 12, 4):
        y, state = layer.step(ops.convert_to_tensor(x[:, start : start + 4]), state)
        pieces.append(ops.convert_to_numpy(y))
    # An edge is met rarely, and then moves a frame by a step or so; elsewhere nothing moves.
    apart = np.abs(np.concatenate(pieces, 1) - whole).max(-1)
    assert np.median(apart) < 1e-4 and apart.max() < 0.5


def test_a_policy_reaches_every_product_and_the_configuration_keeps_it():
    rules = [("", "dynamic_wi4_afp32"), ("attention/", "float32"), ("narrow", "wi4_ai4")]
    layer = ConformerBlock(16, 2, 4, 3, precision=policy(rules), name="block")
    layer.build((None, None, 16))
    copy = ConformerBlock.from_config(layer.get_config())
    copy.build((None, None, 16))
    for block in (layer, copy):
        assert block.before.widen.recipe_name == "dynamic_wi4_afp32"
        assert block.before.narrow.recipe_name == block.after.narrow.recipe_name == "wi4_ai4"
        assert block.attention.inward.recipe_name == "float32"
        assert block.convolution.outward.recipe_name == "dynamic_wi4_afp32"


def test_feed_forward_round_trip_and_dropout():
    layer = FeedForward(8, 2, dropout=0.4)
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
    y = ops.convert_to_numpy(layer(x))
    copy = FeedForward.from_config(layer.get_config())
    copy.build(x.shape)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(ops.convert_to_numpy(copy(x)), y)
    assert y.shape == layer.compute_output_shape(x.shape)
    assert np.any(ops.convert_to_numpy(layer(x, training=True)) != y)
