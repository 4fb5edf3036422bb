"""Fake quantization, as quantization-aware training is elsewhere: floats on the integers' grid."""

import keras
from keras import ops

from asr_qat.quantization import matmul
from asr_qat.quantization.quantizers import Product, as_tensor, with_bias
from asr_qat.quantization.ranges import range_of
from asr_qat.quantization.spec import WeightSpec
from asr_qat.quantization.static import affine, quantize


class FakeQuantProduct(Product):
    """A float product of weights and activations that were rounded to integers and back.

    Weights have a symmetric scale for each channel, without a gradient; activations 8 bits with
    one range for the whole tensor, that of the batch.

    Args:
        bits: of the weights.
    """

    def __init__(self, bits: int):
        self.weight = WeightSpec(bits=bits, scale_gradient=False)

    def __call__(self, x, kernel, bias=None, training=False):
        """See `Product`."""
        weights = matmul.dequantized_kernel(as_tensor(kernel), self.weight)
        return with_bias(ops.matmul(_on_grid(x), weights), bias)


@keras.ops.custom_gradient
def _on_grid(x):
    to = affine(range_of(x))
    codes, inside = quantize(x, to)

    def gradient(*args, upstream=None):
        return (args[0] if upstream is None else upstream) * inside

    return (codes - to.zero_point) * to.scale, gradient


def fake_quantize(model: keras.Model) -> None:
    """Has every quantized dense layer of a model compute so; files are made by its recipe."""
    for layer in model.dense_layers():
        if layer.spec.weight is not None:
            layer.product = FakeQuantProduct(layer.spec.weight.bits)
