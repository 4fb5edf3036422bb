"""The native product: integers are multiplied forward, floats backward.

Keras' integer ``matmul`` has no gradient, so the product is one custom gradient: forward it casts
to integers, multiplies them and rescales the int32 accumulator; backward it is the float product
with the dequantized operands, straight through both roundings (1308.3432), and into the scale.
"""

from collections.abc import Callable

import keras
from keras import ops

from asr_qat.quantization import integers
from asr_qat.quantization.integers import Rows, Tensor
from asr_qat.quantization.spec import WeightSpec


def quantized_matmul(
    x: Tensor, kernel: Tensor, weight: WeightSpec, quantize_rows: Callable[[Tensor], Rows]
) -> Tensor:
    """``x @ kernel`` computed with integers.

    Args:
        x: float32 ``[rows, k]``.
        kernel: float32 ``[k, channels]``; quantized here, at every call.
        weight: how the kernel is quantized.
        quantize_rows: how the rows are, such as `integers.asymmetric_rows`.

    Returns:
        float32 ``[rows, channels]``: ``(accumulator * row scale) * column scale``.
    """
    scale = integers.weight_scale(kernel, weight)

    @keras.ops.custom_gradient
    def product(x, kernel, scale):
        codes = integers.weight_codes(kernel, scale, weight)
        rows = quantize_rows(x)
        accumulator = ops.cast(integers.accumulate(rows, codes), "float32")
        y = (accumulator * rows.scale) * scale

        def gradient(*args, upstream=None):
            dy = args[0] if upstream is None else upstream
            dx = ops.matmul(dy, ops.transpose(ops.cast(codes, "float32") * scale))
            dw = ops.matmul(ops.transpose(integers.dequantized_rows(rows)), dy)
            dkernel, dscale = _through_rounding(dw, kernel, codes, scale, weight)
            return dx, dkernel, dscale

        return y, gradient

    return product(x, kernel, scale)


def weight_only_matmul(x: Tensor, kernel: Tensor, weight: WeightSpec) -> Tensor:
    """``x @ dequantized(kernel)``: float32 rows times weights that stand on the integer grid."""
    return ops.matmul(x, dequantized_kernel(kernel, weight))


def dequantized_kernel(kernel: Tensor, weight: WeightSpec) -> Tensor:
    """The kernel moved onto its integer grid, ``codes * scale``; gradients straight through."""
    scale = integers.weight_scale(kernel, weight)

    @keras.ops.custom_gradient
    def on_grid(kernel, scale):
        codes = integers.weight_codes(kernel, scale, weight)

        def gradient(*args, upstream=None):
            dw = args[0] if upstream is None else upstream
            return _through_rounding(dw, kernel, codes, scale, weight)

        return ops.cast(codes, "float32") * scale, gradient

    return on_grid(kernel, scale)


def _through_rounding(dw, kernel, codes, scale, weight):
    """Gradients of ``codes * scale`` with respect to kernel and scale.

    The rounding is passed straight through; a clipped weight (only with a divisor above qmax)
    gets none. The scale's gradient is ``sum_k dw * (code - w / scale)``, LSQ's (1902.08153).
    """
    ratio = kernel / scale
    inside = ops.cast(ops.abs(ratio) <= weight.qmax + 0.5, dw.dtype)
    dkernel = dw * inside
    dscale = ops.sum(dw * (ops.cast(codes, dw.dtype) - ratio * inside), axis=0)
    return dkernel, dscale
