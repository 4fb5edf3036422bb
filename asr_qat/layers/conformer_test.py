import numpy as np
from keras import ops

from asr_qat.layers.conformer import ConformerBlock, FeedForward
from asr_qat.quantization.spec import policy


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
