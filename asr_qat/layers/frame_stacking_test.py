import numpy as np
import pytest
from keras import ops

from asr_qat.layers.frame_stacking import FrameStacking
from asr_qat.testing import check_streaming_layer


@pytest.mark.parametrize(("stack", "stride"), [(4, 3), (3, 3), (7, 2), (2, 3), (3, 1), (1, 1)])
def test_stacked_frames(stack, stride):
    layer = FrameStacking(stack, stride)
    check_streaming_layer(layer, (6 * stride, 5), (stride, 2 * stride))
    x = np.random.default_rng(0).normal(size=(2, 6 * stride + stride - 1, 5)).astype(np.float32)
    y = ops.convert_to_numpy(layer(x))
    padded = np.pad(x, ((0, 0), (stack, 0), (0, 0)))
    for t in range(6):
        end = stack + stride * (t + 1)
        np.testing.assert_array_equal(y[:, t], padded[:, end - stack : end].reshape(2, -1))
    assert y.shape == (2, 6, 5 * stack) == layer.compute_output_shape(x.shape)


def test_frames_are_stacked_one_at_least():
    with pytest.raises(ValueError, match="stack 4, stride 0; expected both to be at least 1"):
        FrameStacking(4, 0)
