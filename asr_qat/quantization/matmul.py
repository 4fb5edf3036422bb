"""The native product: integers are multiplied forward, floats backward.

Keras' integer ``matmul`` has no gradient, so the product is one custom gradient: forward it casts
to integers, multiplies them and rescales the int32 accumulator; backward it is the float product
with the dequantized operands, straight through both roundings (1308.3432), and into the scale.
"""

from collections.abc import Callable

import keras
from keras import ops

from asr_qat.quantization import integers
from asr_qat.quantization.integers import Rows, Tensor, WeightGrid

Rescale = Callable[[Tensor, Tensor, Tensor], Tensor]


def row_scale_first(accumulator: Tensor, row_scale: Tensor, scale: Tensor) -> Tensor:
    """``(accumulator * row scale) * column scale``, as dynamic kernels do inside themselves."""
    return (accumulator * row_scale) * scale


def row_scale_last(accumulator: Tensor, row_scale: Tensor, scale: Tensor) -> Tensor:
    """``(accumulator * column scale) * row scale``, where the rows' scale is an operator."""
    return (accumulator * scale) * row_scale


def quantized_matmul(
    x: Tensor,
    kernel: Tensor,
    weight: WeightGrid,
    quantize_rows: Callable[[Tensor], Rows],
    rescale: Rescale = row_scale_first,
) -> Tensor:
    """``x @ kernel`` computed with integers.

    Args:
        x: float32 ``[rows, k]``.
        kernel: float32 ``[k, channels]``; quantized here, at every call.
        weight: how the kernel is quantized.
        quantize_rows: how the rows are, such as `integers.asymmetric_rows`.
        rescale: the order of the two scales: it decides the last bit.

    Returns:
        float32 ``[rows, channels]``.
    """
    scale = integers.weight_scale(kernel, weight)

    @keras.ops.custom_gradient
    def product(x, kernel, scale):
        codes = integers.weight_codes(kernel, scale, weight)
        rows = quantize_rows(x)
        accumulator = ops.cast(integers.accumulate(rows, codes), "float32")
        y = rescale(accumulator, rows.scale, scale)

        def gradient(*args, upstream=None):
            dy = args[0] if upstream is None else upstream
            dx = ops.matmul(dy, ops.transpose(ops.cast(codes, "float32") * scale))
            dw = ops.matmul(ops.transpose(integers.dequantized_rows(rows)), dy)
            dkernel, dscale = through_weight_rounding(dw, kernel, codes, scale, weight)
            return dx, dkernel, dscale

        return y, gradient

    return product(x, kernel, scale)


def weight_only_matmul(x: Tensor, kernel: Tensor, weight: WeightGrid) -> Tensor:
    """``x @ dequantized(kernel)``: float32 rows times weights that stand on the integer grid."""
    return ops.matmul(x, dequantized_kernel(kernel, weight))


def dequantized_kernel(kernel: Tensor, weight: WeightGrid) -> Tensor:
    """The kernel moved onto its integer grid, ``codes * scale``; gradients straight through."""
    scale = integers.weight_scale(kernel, weight)

    @keras.ops.custom_gradient
    def on_grid(kernel, scale):
        codes = integers.weight_codes(kernel, scale, weight)

        def gradient(*args, upstream=None):
            dw = args[0] if upstream is None else upstream
            return through_weight_rounding(dw, kernel, codes, scale, weight)

        return ops.cast(codes, "float32") * scale, gradient

    return on_grid(kernel, scale)


LARGEST_FLOAT16 = 65504.0


def float16_kernel(kernel: Tensor) -> Tensor:
    """The kernel rounded to float16, held in float32; gradients straight through."""

    @keras.ops.custom_gradient
    def rounded(kernel):
        def gradient(*args, upstream=None):
            return args[0] if upstream is None else upstream

        inside = ops.clip(kernel, -LARGEST_FLOAT16, LARGEST_FLOAT16)
        return ops.cast(ops.cast(inside, "float16"), "float32"), gradient

    return rounded(kernel)


def through_weight_rounding(dw, kernel, codes, scale, weight):
    """Gradients of ``codes * scale`` with respect to kernel and scale, from the one of the product.

    The rounding is passed straight through; a clipped weight (only with a divisor above qmax)
    gets none. The scale's gradient is ``sum_k dw * (code - w / scale)``, LSQ's (1902.08153).
    """
    ratio = kernel * (1.0 / scale)
    if weight.divisor and weight.divisor > weight.qmax + 0.5:
        inside = ops.cast(ops.abs(ratio) <= weight.qmax + 0.5, dw.dtype)
        dkernel, ratio = dw * inside, ratio * inside
    else:
        dkernel = dw
    return dkernel, ops.sum(dw * (ops.cast(codes, dw.dtype) - ratio), axis=0)
