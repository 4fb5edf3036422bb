"""What each engine makes of integers, in NumPy, to the last bit (docs/numerics.md)."""

import numpy as np

from .kernels import Target
from .one_layer import Affine


def epilogue(
    accumulator: np.ndarray, row_scale: np.ndarray, scale: np.ndarray, bias: np.ndarray, target
) -> np.ndarray:
    """What a dynamic kernel of the target makes of accumulators.

    The built-in kernels' order of operations is not fixed; this is near it (`stray`).

    Args:
        accumulator: int32 ``[rows, out]``.
        row_scale: float32 ``[rows, 1]``.
        scale: float32 ``[out]``.
        bias: float32 ``[out]``.
        target: the kernels.

    Returns:
        float32 ``[rows, out]``.
    """
    acc = accumulator.astype(np.float32)
    if target is Target.XNNPACK_X86:
        scaled = acc * row_scale
        # float64 holds the product exactly, so the sum below rounds once, as a fused product does.
        return (scaled.astype(np.float64) * scale + bias).astype(np.float32)
    return acc * (row_scale * scale).astype(np.float32) + bias


def builtin_asymmetric_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a zero point as TFLite's own kernels quantize them (AsymmetricQuantizeFloats).

    In exact arithmetic this is `integers.asymmetric_rows`; it differs in where it rounds.

    Args:
        x: float32 ``[rows, in]``.

    Returns:
        Codes less zero point, int64 ``[rows, in]``, and the row scales, float32 ``[rows, 1]``.
    """
    low = np.minimum(x.min(axis=1, keepdims=True), np.float32(0))
    high = np.maximum(x.max(axis=1, keepdims=True), np.float32(0))
    flat = low == high
    scale = np.where(flat, np.float32(1), (high - low) / np.float32(255))
    down, up = (v.astype(np.float64) / scale for v in (low, high))
    zero = np.where(128 + np.abs(down) < 127 + np.abs(up), -128 - down, 127 - up)
    zero = np.where(flat, 0, np.clip(_away(zero), -128, 127)).astype(np.int64)
    steps = _away(x * (np.float32(1) / scale)).astype(np.int64)
    return np.clip(steps, -128 - zero, 127 - zero), scale


def _away(x):
    """The nearest integers, ties away from zero."""
    return np.sign(x) * np.floor(np.abs(x) + np.asarray(0.5, x.dtype))


def outputs_that_differ(y: np.ndarray, exact: np.ndarray, unit: np.ndarray, target: Target) -> int:
    """Outputs that are not the exact epilogue's.

    The built-in 4-bit kernel adds and takes away an offset in float32, so its outputs stray by
    small parts of an accumulator's ``unit``: less than a quarter of it is no difference there.
    """
    if target.is_xnnpack:
        return int(np.sum(y != exact))
    return int(np.sum(np.abs(y.astype(np.float64) - exact) > 0.25 * unit))


def quantize(x: np.ndarray, to: Affine, target: Target) -> np.ndarray:
    """QUANTIZE: codes of x, int64.

    Reference kernels divide by the scale and round ties away from zero; all others multiply by
    its rounded reciprocal, ties to even.
    """
    if target is Target.REFERENCE:
        quotient = x / np.float32(to.scale)
        codes = np.sign(quotient) * np.floor(np.abs(quotient.astype(np.float64)) + 0.5)
    else:
        codes = np.rint(x * (np.float32(1) / np.float32(to.scale)))
    return np.clip(codes + to.zero_point, -128, 127).astype(np.int64)


def requantize(
    accumulator: np.ndarray, scale: np.ndarray, source: Affine, result: Affine, target: Target
) -> np.ndarray:
    """The codes that a static FULLY_CONNECTED makes of its accumulators, int64 ``[rows, out]``.

    Args:
        accumulator: int64 ``[rows, out]``, bias included.
        scale: float32 ``[out]``, of the weights.
        source: of the input.
        result: of the result.
        target: XNNPACK multiplies in float32, ties to even. The others multiply with 31 bits of
            the multiplier: the reference kernel rounds once, the optimized one twice.
    """
    if target.is_xnnpack:
        unit = np.float32(source.scale) * scale
        codes = np.rint(accumulator.astype(np.float32) * (unit / np.float32(result.scale)))
    else:
        ratio = np.float64(source.scale) * scale.astype(np.float64) / np.float64(result.scale)
        multiplier, shift = _fixed_point(ratio)
        rounding = _once if target is Target.REFERENCE else _twice
        codes = rounding(accumulator, multiplier, shift)
    return np.clip(codes + result.zero_point, -128, 127).astype(np.int64)


def values_that_differ(y: np.ndarray, codes: np.ndarray, of: Affine, target: Target) -> int:
    """Outputs of DEQUANTIZE that are not ``(code - zero_point) * scale``, in float32.

    The optimized kernel multiplies code and zero point one by one where it runs on vectors: there
    a few units in the last place of the largest value are no difference.
    """
    scale = np.float32(of.scale)
    exact = (codes - of.zero_point).astype(np.float32) * scale
    tolerance = 4 * np.spacing(255 * scale) if target is Target.BUILTIN else np.float32(0)
    return int(np.sum(np.abs(y - exact) > tolerance))


def _fixed_point(ratio):
    """``ratio = multiplier * 2^(shift - 31)`` with a multiplier of 31 bits."""
    fraction, shift = np.frexp(ratio)
    multiplier = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    full = multiplier == 1 << 31
    return np.where(full, multiplier // 2, multiplier), np.where(full, shift + 1, shift)


def _once(accumulator, multiplier, shift):
    """``round_half_up(accumulator * multiplier / 2^(31 - shift))``."""
    places = 31 - shift.astype(np.int64)
    return (accumulator * multiplier + (np.int64(1) << (places - 1))) >> places


def _twice(accumulator, multiplier, shift):
    """Rounds to an integer after the multiplication, half away, then again, half up."""
    left = np.maximum(shift, 0).astype(np.int64)
    right = np.maximum(-shift, 0).astype(np.int64)
    product = (accumulator << left) * multiplier
    product += np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(product) * (np.abs(product) >> 31)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    return (high + half) >> right
