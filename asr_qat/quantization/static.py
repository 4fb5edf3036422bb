"""The static product: int8 activations with one frozen range for the whole tensor.

It is what QUANTIZE, FULLY_CONNECTED and DEQUANTIZE compute on XNNPACK (docs/numerics.md). All
float steps are single float32 operations in a fixed order, none of which a compiler may merge
with the next: between a product and a sum stands a rounding to an integer.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from asr_qat.quantization import integers
from asr_qat.quantization.integers import Rows, Tensor, WeightGrid
from asr_qat.quantization.matmul import through_weight_rounding

# A narrower range counts as that wide, so that reciprocals stay finite.
NARROWEST = np.float32(1e-30)
# XNNPACK refuses a whole file in which one accumulator step is 256 codes of the result, or more.
MOST_CODES_PER_STEP = 128.0
# Leaves room in int32 for the sum of 33,000 products of int8 codes.
LARGEST_BIAS = 2.0**30


class Affine(NamedTuple):
    """int8 codes of a tensor: ``x ~ (code - zero_point) * scale``.

    Attributes:
        scale: float32 scalar.
        zero_point: float32 scalar holding an integer in [-128, 127].
    """

    scale: Tensor
    zero_point: Tensor


class StaticIntegers(NamedTuple):
    """Everything between the input and the output of a static product.

    Attributes:
        input: scale and zero point of x.
        output: of the result.
        rows: x as int8 rows, all of one zero point and scale.
        scale: float32 ``[channels]``, of the weights.
        codes: int8 ``[k, channels]``, of the weights.
        bias: int32 ``[channels]``, in units of ``input.scale * scale``.
        accumulator: int32 ``[rows, channels]``, bias included.
        result: float32 ``[rows, channels]`` holding integers: the output's codes.
        inside_input: float32, 1 where x was not clipped.
        inside_output: float32, 1 where the result was not clipped.
    """

    input: Affine
    output: Affine
    rows: Rows
    scale: Tensor
    codes: Tensor
    bias: Tensor
    accumulator: Tensor
    result: Tensor
    inside_input: Tensor
    inside_output: Tensor


class StaticLayer(NamedTuple):
    """What a file stores of a static product.

    Attributes:
        input: scale and zero point of x.
        output: of the result.
        scale: float32 ``[channels]``, of the weights.
        codes: int8 ``[k, channels]``, of the weights.
        bias: int32 ``[channels]``, in units of ``input.scale * scale``.
    """

    input: Affine
    output: Affine
    scale: Tensor
    codes: Tensor
    bias: Tensor


def affine(bounds: Tensor, least_scale: Tensor | float = 0.0) -> Affine:
    """Scale and zero point of a range, moved so that 0 has a code of its own.

    ``scale = (high - low) * (1 / 255)``, ``zero_point = -128 - round_half_even(low * (1 / scale))``

    Args:
        bounds: float32 ``[2]``, lowest value <= 0 and highest >= 0.
        least_scale: the scale is at least this.
    """
    low, high = bounds[0], bounds[1]
    scale = ops.maximum(high - low, NARROWEST) * np.float32(1.0 / 255.0)
    scale = ops.maximum(scale, least_scale)
    return Affine(scale, -128.0 - ops.round(low * (1.0 / scale)))


def quantize(x: Tensor, to: Affine) -> tuple[Tensor, Tensor]:
    """Codes ``clip(round_half_even(x * (1 / scale)) + zero_point, -128, 127)``.

    Returns:
        float32 codes, and 1 where nothing was clipped, else 0; both shaped as x.
    """
    return _clipped(ops.round(x * (1.0 / to.scale)) + to.zero_point)


def requantize(accumulator: Tensor, multiplier: Tensor, to: Affine) -> tuple[Tensor, Tensor]:
    """Codes ``clip(round_half_even(float32(accumulator) * multiplier) + zero_point, -128, 127)``.

    Args:
        accumulator: int32 ``[rows, channels]``.
        multiplier: float32 ``[channels]``, from `output_multiplier`.
        to: scale (already in the multiplier) and zero point of the result.

    Returns:
        As `quantize`.
    """
    return _clipped(ops.round(ops.cast(accumulator, "float32") * multiplier) + to.zero_point)


def _clipped(codes):
    inside = ops.logical_and(codes >= -128.0, codes <= 127.0)
    return ops.clip(codes, -128.0, 127.0), ops.cast(inside, "float32")


def output_multiplier(unit: Tensor, output_scale: Tensor) -> Tensor:
    """``unit / output_scale``, float32 ``[channels]``, as XNNPACK divides when it loads a file.

    Args:
        unit: value of one accumulator step, ``input scale * weight scale``, all > 0.
        output_scale: scalar > 0.
    """
    # The maximum is the output's scale for every channel. Without it XLA sees that all channels
    # share a divisor and multiplies by its rounded reciprocal instead.
    return unit / ops.maximum(output_scale, -unit)


def output_affine(bounds: Tensor, unit: Tensor) -> Affine:
    """Scale and zero point of the result, the scale large enough for XNNPACK.

    Args:
        bounds: float32 ``[2]``.
        unit: value of one accumulator step of each channel.
    """
    return affine(bounds, ops.max(unit) * np.float32(1.0 / MOST_CODES_PER_STEP))


def frozen(
    kernel: Tensor, bias: Tensor, weight: WeightGrid, input_range: Tensor, output_range: Tensor
) -> StaticLayer:
    """What a file stores of a static product with these weights and ranges.

    Args:
        kernel: float32 ``[k, channels]``.
        bias: float32 ``[channels]``.
        weight: how the kernel is quantized.
        input_range: float32 ``[2]``.
        output_range: float32 ``[2]``.
    """
    scale = integers.weight_scale(kernel, weight)
    source = affine(input_range)
    unit = source.scale * scale
    codes = integers.weight_codes(kernel, scale, weight)
    return StaticLayer(
        source, output_affine(output_range, unit), scale, codes, bias_codes(bias, unit)
    )


def bias_codes(bias: Tensor, unit: Tensor) -> Tensor:
    """``round_half_even(bias * (1 / unit))``, int32 ``[channels]``."""
    return ops.cast(ops.clip(ops.round(bias * (1.0 / unit)), -LARGEST_BIAS, LARGEST_BIAS), "int32")


def static_integers(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    scale: Tensor,
    weight: WeightGrid,
    input_range: Callable[[Tensor], Tensor],
    output_range: Callable[[Tensor], Tensor],
) -> StaticIntegers:
    """The forward pass in integers; it has no gradient.

    Args:
        x: float32 ``[rows, k]``.
        kernel: float32 ``[k, channels]``.
        bias: float32 ``[channels]``.
        scale: float32 ``[channels]``, from `integers.weight_scale`.
        weight: how the kernel is quantized.
        input_range: gives the range ``[2]`` for x.
        output_range: gives the range for the result, before it is quantized.
    """
    x, kernel, bias, scale = (ops.stop_gradient(v) for v in (x, kernel, bias, scale))
    source = affine(input_range(x))
    quantized, inside_input = quantize(x, source)
    zero = ops.reshape(ops.cast(source.zero_point, "int32"), (1, 1))
    rows = Rows(ops.cast(quantized, "int8"), zero, source.scale)
    codes = integers.weight_codes(kernel, scale, weight)
    unit = source.scale * scale
    offset = bias_codes(bias, unit)
    accumulator = integers.accumulate(rows, codes) + offset
    target = output_affine(output_range(ops.cast(accumulator, "float32") * unit), unit)
    result, inside_output = requantize(accumulator, output_multiplier(unit, target.scale), target)
    return StaticIntegers(
        source,
        target,
        rows,
        scale,
        codes,
        offset,
        accumulator,
        result,
        inside_input,
        inside_output,
    )


def static_matmul(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    weight: WeightGrid,
    input_range: Callable[[Tensor], Tensor],
    output_range: Callable[[Tensor], Tensor],
) -> Tensor:
    """``x @ kernel + bias`` from int8 to int8.

    The gradient is that of the dequantized operands, straight through all roundings; it is zero
    where x or the result was clipped.

    Args:
        x: float32 ``[rows, k]``.
        kernel: float32 ``[k, channels]``.
        bias: float32 ``[channels]``.
        weight: how the kernel is quantized.
        input_range: gives the range ``[2]`` for x.
        output_range: gives the range for the result, before it is quantized.

    Returns:
        float32 ``[rows, channels]``: ``(code - zero_point) * scale`` of the result.
    """
    scale = integers.weight_scale(kernel, weight)
    found = static_integers(x, kernel, bias, scale, weight, input_range, output_range)
    y = (found.result - found.output.zero_point) * found.output.scale
    rows, codes = integers.dequantized_rows(found.rows), ops.cast(found.codes, "float32")

    # Everything comes in as an argument: JAX lets no gradient rule close over what is traced.
    @keras.ops.custom_gradient
    def straight_through(x, kernel, scale, bias, y, rows, codes, inside_input, inside_output):
        def gradient(*args, upstream=None):
            dy = (args[0] if upstream is None else upstream) * inside_output
            dx = ops.matmul(dy, ops.transpose(codes * scale)) * inside_input
            dw = ops.matmul(ops.transpose(rows), dy)
            dkernel, dscale = through_weight_rounding(dw, kernel, codes, scale, weight)
            nothing = (ops.zeros_like(v) for v in (y, rows, codes, inside_input, inside_output))
            return dx, dkernel, dscale, ops.sum(dy, axis=0), *nothing

        return ops.copy(y), gradient

    return straight_through(
        x, kernel, scale, bias, y, rows, codes, found.inside_input, found.inside_output
    )
