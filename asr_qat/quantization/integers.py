"""Quantization as pure functions, on any Keras backend.

Everything is computed in float32 in a fixed order, because a phone does the same: see
docs/numerics.md. Codes are small integers held in int8; two 4-bit codes share a byte only in a
file.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from asr_qat.backend import sees_a_gpu

Tensor = Any
WeightGrid = Any  # a `WeightSpec`, or what a training step has drawn in its place


class Rows(NamedTuple):
    """Integer rows: ``x ~ (codes - zero_point) * scale``, row by row.

    Attributes:
        codes: int8 ``[rows, k]``.
        zero_point: int32 ``[rows, 1]``, or None where it is zero throughout.
        scale: float32 ``[rows, 1]``, the value of one step.
    """

    codes: Tensor
    zero_point: Tensor | None
    scale: Tensor


def weight_scale(kernel: Tensor, spec: WeightGrid) -> Tensor:
    """One scale per output channel: ``max_k |w[k, c]| / divisor``; 1 for an all-zero channel.

    Args:
        kernel: float32 ``[k, channels]``.
        spec: bits and divisor; with ``scale_gradient`` false the scale carries no gradient.

    Returns:
        float32 ``[channels]``.
    """
    largest = ops.max(ops.abs(kernel), axis=0)
    if not spec.scale_gradient:
        largest = ops.stop_gradient(largest)
    # A product with the rounded reciprocal, not a division: compilers rewrite the division by a
    # constant into this product, and then the codes would depend on who compiled them.
    scale = largest * ops.cast(spec.reciprocal, "float32")
    return ops.where(scale > 0, scale, ops.ones_like(scale))


def weight_codes(kernel: Tensor, scale: Tensor, spec: WeightGrid) -> Tensor:
    """Codes ``clip(round_half_even(w * (1 / scale)), -qmax, qmax)``, int8, shaped as ``kernel``."""
    # Newer XLA (JAX 0.10) computes ``w / scale`` as this product, older XLA and TensorFlow do not;
    # written out, one weight in a million does not depend on the compiler.
    codes = ops.clip(ops.round(kernel * (1.0 / scale)), -spec.qmax, spec.qmax)
    return ops.cast(codes, "int8")


def asymmetric_rows(x: Tensor) -> Rows:
    """int8 rows with a zero point each, as XNNPACK's dynamic (qd8) kernels quantize them.

    Args:
        x: float32 ``[rows, k]``.
    """
    low = ops.minimum(ops.min(x, axis=-1, keepdims=True), 0.0)
    high = ops.maximum(ops.max(x, axis=-1, keepdims=True), 0.0)
    flat = ops.equal(low, high)
    per_unit = ops.where(flat, 1.0, 255.0 / ops.where(flat, 1.0, high - low))
    low_end, high_end = low * per_unit, high * per_unit
    zero = ops.where((low_end - 128.0) + (high_end + 127.0) > 0, -128.0 - low_end, 127.0 - high_end)
    zero = ops.round(ops.clip(zero, -128.0, 127.0))
    codes = ops.round(ops.clip(x * per_unit, -128.0 - zero, 127.0 - zero)) + zero
    return Rows(ops.cast(codes, "int8"), ops.cast(zero, "int32"), 1.0 / per_unit)


def symmetric_rows(x: Tensor) -> Rows:
    """Rows with zero point 0 and codes in [-127, 127], as TFLite's built-in hybrid kernels do.

    Ties go away from zero.

    Args:
        x: float32 ``[rows, k]``.
    """
    largest = ops.max(ops.abs(x), axis=-1, keepdims=True)
    silent = ops.equal(largest, 0.0)
    per_unit = ops.where(silent, 0.0, 127.0 / ops.where(silent, 1.0, largest))
    scaled = x * per_unit
    codes = ops.clip(ops.sign(scaled) * ops.floor(ops.abs(scaled) + 0.5), -127.0, 127.0)
    scale = ops.where(silent, 1.0, largest * np.float32(1.0 / 127.0))
    return Rows(ops.cast(codes, "int8"), None, scale)


# A row whose largest value is below this counts as that large: silence needs no branch, and the
# reciprocal stays finite.
QUIETEST_ROW = np.float32(1e-30)


def four_bit_rows(x: Tensor) -> Rows:
    """Rows with zero point 0 and codes in [-7, 7], ties to even: float operators of a file can.

    Args:
        x: float32 ``[rows, k]``.
    """
    largest = ops.maximum(ops.max(ops.abs(x), axis=-1, keepdims=True), QUIETEST_ROW)
    codes = ops.round(x * (7.0 / largest))
    return Rows(ops.cast(codes, "int8"), None, largest * np.float32(1.0 / 7.0))


def integer_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Exact int8 ``[m, k]`` x int8 ``[k, n]`` -> int32 ``[m, n]``."""
    if keras.backend.backend() == "tensorflow" and sees_a_gpu():
        return _float_integer_matmul(a, b)
    return ops.matmul(a, b)


# float32 counts exactly up to 2^24, and one product of two int8 codes is at most 2^14.
_EXACT_FLOAT_TERMS = 1024


def _float_integer_matmul(a: Tensor, b: Tensor) -> Tensor:
    """`integer_matmul` where there is no int8 kernel: exact float32 products, split over k."""
    total = None
    for start in range(0, a.shape[-1], _EXACT_FLOAT_TERMS):
        stop = start + _EXACT_FLOAT_TERMS
        part = ops.matmul(ops.cast(a[:, start:stop], "float32"), ops.cast(b[start:stop], "float32"))
        part = ops.cast(part, "int32")
        total = part if total is None else total + part
    return total


def accumulate(rows: Rows, codes: Tensor) -> Tensor:
    """The int32 accumulator ``sum_k (rows.codes[k] - zero_point) * codes[k, c]``, exact.

    Args:
        rows: integer rows ``[rows, k]``.
        codes: int8 weight codes ``[k, channels]``.

    Returns:
        int32 ``[rows, channels]``.
    """
    accumulator = integer_matmul(rows.codes, codes)
    if rows.zero_point is None:
        return accumulator
    column_sums = ops.sum(ops.cast(codes, "int32"), axis=0, keepdims=True)
    return accumulator - rows.zero_point * column_sums


def dequantized_rows(rows: Rows) -> Tensor:
    """The float32 values ``[rows, k]`` that integer rows stand for."""
    codes = ops.cast(rows.codes, "float32")
    if rows.zero_point is not None:
        codes = codes - ops.cast(rows.zero_point, "float32")
    return codes * rows.scale
