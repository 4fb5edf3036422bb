import numpy as np
from keras import ops

from asr_qat.layers.feed_forward import FeedForward


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


def test_a_share_of_a_step_is_in_the_initial_weights():
    deviations = []
    for share in (1.0, 0.5):
        layer = FeedForward(64, 4, share=share)
        layer.build((None, None, 64))
        deviations.append(float(np.std(layer.narrow.get_weights()[0])))
    assert 0.45 < deviations[1] / deviations[0] < 0.55
