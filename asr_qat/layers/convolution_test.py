import numpy as np
import pytest
from keras import ops

from asr_qat.layers.convolution import CausalDepthwiseConvolution, ConvolutionModule
from asr_qat.testing import check_streaming_layer


@pytest.mark.parametrize("kernel_size", [2, 5, 30])
def test_streaming_contract(kernel_size):
    check_streaming_layer(CausalDepthwiseConvolution(kernel_size), (20, 6), (1, 3, 8))


@pytest.mark.parametrize("precision", ["float32", "dynamic_wi8_afp32"])
def test_streaming_contract_of_the_module(precision):
    # Integers turn the last bits of a float operation into a code now and then.
    tolerance = 1e-5 if precision == "float32" else 2e-2
    layer = ConvolutionModule(16, 5, precision=precision)
    check_streaming_layer(layer, (20, 16), (1, 4), tolerance=tolerance)


def test_each_channel_is_filtered_over_its_own_past():
    x = np.random.default_rng(0).normal(size=(2, 12, 3)).astype(np.float32)
    layer = CausalDepthwiseConvolution(4)
    y = ops.convert_to_numpy(layer(x))
    taps = layer.get_weights()[0]
    for b in range(2):
        for c in range(3):
            expected = np.convolve(x[b, :, c], taps[::-1, c])[:12]
            np.testing.assert_allclose(y[b, :, c], expected, atol=1e-5)


def test_a_kernel_of_one_tap_is_refused():
    with pytest.raises(ValueError, match="kernel_size: received 1, expected at least 2"):
        CausalDepthwiseConvolution(1)
