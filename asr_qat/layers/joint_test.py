import numpy as np
import pytest
from keras import ops

from asr_qat.layers.joint import Joint


def parts(precision="float32"):
    rng = np.random.default_rng(0)
    layer = Joint(8, 5, precision=precision)
    layer.build((None, None, 12), (None, None, 10))
    layer.bias.assign(rng.normal(size=5).astype(np.float32))
    shapes = ((2, 6, 12), (2, 4, 10), (5, 8))
    return layer, *(rng.normal(size=s).astype(np.float32) for s in shapes)


@pytest.mark.parametrize("precision", ["float32", "dynamic_wi4_afp32"])
def test_call_is_step_for_every_frame_and_prediction(precision):
    layer, encoded, predicted, table = parts(precision)
    whole = ops.convert_to_numpy(layer(encoded, predicted, table))
    assert whole.shape == (2, 6, 4, 5)
    for t in range(6):
        for u in range(4):
            one = layer.step(encoded[:, t], predicted[:, u], table)
            np.testing.assert_allclose(ops.convert_to_numpy(one), whole[:, t, u], atol=1e-5)


def test_equals_the_formula():
    layer, encoded, predicted, table = parts()
    kernel, bias = layer.from_encoder.get_weights()
    (other,) = layer.from_prediction.get_weights()
    hidden = (encoded @ kernel + bias)[:, :, None] + (predicted @ other)[:, None]
    expected = np.tanh(hidden) @ table.T + ops.convert_to_numpy(layer.bias)
    logits = ops.convert_to_numpy(layer(encoded, predicted, table))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_configuration_round_trips():
    layer, encoded, predicted, table = parts("dynamic_wi8_afp32")
    copy = Joint.from_config(layer.get_config())
    copy.build(encoded.shape, predicted.shape)
    copy.set_weights(layer.get_weights())
    assert copy.get_config() == layer.get_config()
    assert copy.from_prediction.recipe_name == "dynamic_wi8_afp32"
    np.testing.assert_array_equal(
        ops.convert_to_numpy(copy(encoded, predicted, table)),
        ops.convert_to_numpy(layer(encoded, predicted, table)),
    )
