import numpy as np
import pytest
from keras import ops

from asr_qat.layers.subsampling import ConvolutionSubsampling, StridedConvolution
from asr_qat.testing import check_streaming_layer


@pytest.mark.parametrize("precision", ["float32", "dynamic_wi4_afp32"])
def test_streaming_contract(precision):
    check_streaming_layer(ConvolutionSubsampling(16, 24, precision=precision), (32, 10), (4, 8, 20))


def test_one_convolution_streams_by_twos():
    check_streaming_layer(StridedConvolution(8), (16, 6), (2, 4, 6))


def test_is_a_causal_convolution_of_stride_two():
    rng = np.random.default_rng(0)
    layer = StridedConvolution(5, activation=None)
    x = rng.normal(size=(2, 9, 4)).astype(np.float32)
    y = ops.convert_to_numpy(layer(x))
    kernel, bias = (ops.convert_to_numpy(w) for w in layer.get_weights())
    taps = kernel.reshape(3, 4, 5)
    padded = np.pad(x, ((0, 0), (1, 0), (0, 0)))
    expected = [
        sum(padded[:, 2 * t + i] @ taps[i] for i in range(3)) + bias for t in range(x.shape[1] // 2)
    ]
    np.testing.assert_allclose(y, np.stack(expected, 1), atol=1e-5)


@pytest.mark.parametrize("frames", [4, 5, 6, 7, 8, 33])
def test_frames_beyond_a_whole_output_are_left_out(frames):
    layer = ConvolutionSubsampling(4, 4)
    x = np.random.default_rng(frames).normal(size=(1, frames, 3)).astype(np.float32)
    y = ops.convert_to_numpy(layer(x))
    assert y.shape == (1, frames // 4, 4) == layer.compute_output_shape(x.shape)
    whole = ops.convert_to_numpy(layer(x[:, : frames // 4 * 4]))
    np.testing.assert_allclose(y, whole, atol=1e-6)
    assert layer.compute_output_shape((None, None, 3)) == (None, None, 4)
