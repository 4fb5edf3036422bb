"""The integers, against NumPy written out, eager and compiled by XLA, on any backend."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.backend import compiled
from asr_qat.quantization import integers
from asr_qat.quantization.integers import Rows
from asr_qat.quantization.spec import WeightSpec

F32 = np.float32
BITS = (2, 4, 6, 8)


def reference_asymmetric(x):
    """XNNPACK's per-row asymmetric int8 (numerics.md §2): codes less zero point, step."""
    low, high = np.minimum(x.min(-1), 0).astype(F32), np.maximum(x.max(-1), 0).astype(F32)
    width = np.where(low == high, F32(1), high - low)
    per_unit = np.where(low == high, F32(1), F32(255) / width).astype(F32)
    low_end, high_end = low * per_unit, high * per_unit
    from_low = (F32(-128) + low_end) + (F32(127) + high_end) > 0
    zero = np.where(from_low, F32(-128) - low_end, F32(127) - high_end)
    zero = np.rint(np.clip(zero, -128, 127))
    codes = np.rint(np.clip(x * per_unit[:, None], -128 - zero[:, None], 127 - zero[:, None]))
    return codes.astype(np.int32), (F32(1) / per_unit).astype(F32)


def reference_symmetric(x):
    """TFLite's built-in hybrid kernel: per-row symmetric, ties away from zero."""
    qmax = 127
    largest = np.abs(x).max(-1).astype(F32)
    divisor = np.where(largest == 0, F32(1), largest)
    scaled = x * np.where(largest == 0, F32(0), F32(qmax) / divisor).astype(F32)[:, None]
    codes = np.clip(np.sign(scaled) * np.floor(np.abs(scaled) + F32(0.5)), -qmax, qmax)
    return codes.astype(np.int32), np.where(largest == 0, F32(1), largest / F32(qmax))


def reference_four_bits(x):
    """The four-bit activation: per-row symmetric, ties to even, the quietest rows guarded."""
    largest = np.maximum(np.abs(x).max(-1), F32(1e-30))
    codes = np.rint(x * (F32(7) / largest)[:, None])
    return codes.astype(np.int32), largest * F32(1 / 7)


def reference_weights(w, qmax):
    """Scales and codes of a weight matrix."""
    scale = np.abs(w).max(0) * F32(1.0 / qmax)
    scale = np.where(scale > 0, scale, F32(1))
    return scale, np.clip(np.rint(w * (F32(1) / scale)), -qmax, qmax).astype(np.int8)


def special_rows(rng, k):
    """Silent, constant, one-sided, spiky, tiny and huge rows, float32 [rows, k]."""
    normal = rng.normal(size=k)
    spiky = normal.copy()
    spiky[0] = 1e4
    rows = [0 * normal, 0 * normal + 1.5, 0 * normal - 1.5, np.abs(normal), -np.abs(normal)]
    rows += [spiky, -spiky, normal * 1e-20, normal * 1e20, np.arange(k) - k / 2]
    return np.stack(rows).astype(F32)


def random_rows(rng, rows, k):
    x = rng.normal(size=(rows, k)) * rng.uniform(0.01, 30, (rows, 1)) + rng.normal(size=(rows, 1))
    return np.concatenate([x.astype(F32), special_rows(rng, k)])


def quantize(function, x):
    """Codes less zero point int32, and scales, of `function` compiled and not."""

    def flat(x):
        rows = function(x)
        codes = ops.cast(rows.codes, "int32")
        return (codes if rows.zero_point is None else codes - rows.zero_point), rows.scale

    for run in (flat, compiled(flat)):
        codes, scale = run(ops.convert_to_tensor(x))
        yield ops.convert_to_numpy(codes), ops.convert_to_numpy(scale)[:, 0]


def quantize_weights(w, spec):
    def flat(w):
        scale = integers.weight_scale(w, spec)
        return scale, integers.weight_codes(w, scale, spec)

    for run in (flat, compiled(flat)):
        yield tuple(ops.convert_to_numpy(v) for v in run(ops.convert_to_tensor(w)))


@pytest.mark.parametrize("k", [1, 7, 64, 301])
def test_asymmetric_rows_equal_the_reference(k):
    x = random_rows(np.random.default_rng(k), 4000, k)
    expected_codes, expected_scale = reference_asymmetric(x)
    for codes, scale in quantize(integers.asymmetric_rows, x):
        np.testing.assert_array_equal(codes, expected_codes)
        np.testing.assert_array_equal(scale, expected_scale)


@pytest.mark.parametrize("k", [1, 64, 301])
def test_symmetric_rows_equal_the_reference(k):
    x = random_rows(np.random.default_rng(k), 4000, k)
    expected_codes, expected_scale = reference_symmetric(x)
    for codes, scale in quantize(integers.symmetric_rows, x):
        np.testing.assert_array_equal(codes, expected_codes)
        # The product with 1 / 127 may stand one unit beside the quotient.
        np.testing.assert_array_max_ulp(scale, expected_scale.astype(F32), 1)


@pytest.mark.parametrize("k", [1, 64, 301])
def test_four_bit_rows_equal_the_reference(k):
    x = random_rows(np.random.default_rng(k), 4000, k)
    x[0, :] = np.resize([0.5, 1.5, 2.5, -0.5, -1.5, 7.0], k)  # ties, where 7 is the largest
    expected_codes, expected_scale = reference_four_bits(x)
    for codes, scale in quantize(integers.four_bit_rows, x):
        np.testing.assert_array_equal(codes, expected_codes)
        np.testing.assert_array_equal(scale, expected_scale)
    if k > 5:
        assert expected_codes[0, :6].tolist() == [0, 2, 2, 0, -2, 7]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), k=st.integers(1, 40), size=st.floats(-12, 12))
def test_rows_stand_for_their_values(seed, k, size):
    x = (special_rows(np.random.default_rng(seed), k)[1:] * 10**size).astype(F32)
    x = x[np.abs(x).max(-1) > 1e-25]  # below, float32 has fewer digits
    for function, low, high in (
        (integers.asymmetric_rows, -128, 127),
        (integers.symmetric_rows, -127, 127),
        (integers.four_bit_rows, -7, 7),
    ):
        rows = function(ops.convert_to_tensor(x))
        codes = ops.convert_to_numpy(rows.codes)
        assert codes.dtype == np.int8 and codes.min() >= low and codes.max() <= high
        error = np.abs(ops.convert_to_numpy(integers.dequantized_rows(rows)) - x)
        # The zero point's own rounding may cost the end of the range half a step more.
        bound = 1.0 if rows.zero_point is not None else 0.5
        assert np.all(error <= ops.convert_to_numpy(rows.scale) * bound * (1 + 1e-4))


@pytest.mark.parametrize("bits", BITS)
def test_weight_codes_equal_the_reference_whoever_compiles(bits):
    spec = WeightSpec(bits=bits)
    w = np.random.default_rng(bits).normal(size=(700, 900)).astype(F32)
    w[:, 0], w[:, 1], w[1:, 2] = 0, -0.0, 0
    expected_scale, expected_codes = reference_weights(w, spec.qmax)
    for scale, codes in quantize_weights(w, spec):
        np.testing.assert_array_equal(scale, expected_scale)
        np.testing.assert_array_equal(codes, expected_codes)
        assert np.all(scale[:2] == 1) and np.all(codes[:, :2] == 0)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    bits=st.sampled_from(BITS),
    k=st.integers(1, 40),
    size=st.floats(-10, 10),
)
def test_weight_codes_have_their_properties(seed, bits, k, size):
    spec = WeightSpec(bits=bits)
    w = (np.random.default_rng(seed).normal(size=(k, 6)) * 10**size).astype(F32)
    scale, codes = next(quantize_weights(w, spec))
    assert codes.dtype == np.int8 and np.abs(codes).max(0).tolist() == [spec.qmax] * 6
    dequantized = codes.astype(F32) * scale
    assert np.all(np.abs(dequantized - w) <= scale * 0.5 * (1 + 1e-4))
    _, again = next(quantize_weights(dequantized, spec))
    np.testing.assert_array_equal(again, codes)


def test_divisor_sets_the_scale_and_codes_stay_in_range():
    w = np.array([[-4.0, 8.0], [2.0, 1.0]], F32)
    scale, codes = next(quantize_weights(w, WeightSpec(bits=4, divisor=4.0)))
    assert scale.tolist() == [1, 2] and codes.tolist() == [[-4, 4], [2, 0]]
    _, codes = next(quantize_weights(w, WeightSpec(bits=4, divisor=16.0)))
    assert codes.tolist() == [[-7, 7], [7, 2]]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), m=st.integers(1, 5), k=st.integers(1, 300))
def test_accumulate_is_exact(seed, m, k):
    rng = np.random.default_rng(seed)
    codes, weights = rng.integers(-128, 128, (m, k)), rng.integers(-127, 128, (k, 4))
    zero = rng.integers(-128, 128, (m, 1))
    for zero_point in (None, zero):
        offset = 0 if zero_point is None else zero_point
        rows = Rows(
            ops.convert_to_tensor(codes.astype(np.int8)),
            None if zero_point is None else ops.convert_to_tensor(zero_point.astype(np.int32)),
            ops.ones((m, 1)),
        )
        accumulator = integers.accumulate(rows, ops.convert_to_tensor(weights.astype(np.int8)))
        result = ops.convert_to_numpy(accumulator)
        assert result.dtype == np.int32
        np.testing.assert_array_equal(result, (codes - offset).astype(np.int64) @ weights)


@pytest.mark.parametrize("k", [1, 1024, 1025, 3000])
@pytest.mark.parametrize("extreme", [False, True])
def test_float_fallback_equals_the_integer_product(k, extreme):
    rng = np.random.default_rng(k)
    a, b = rng.integers(-128, 128, (3, k)), rng.integers(-127, 128, (k, 5))
    if extreme:  # the largest sums that codes can make
        a, b = np.full_like(a, -128), np.full_like(b, -127)
    left, right = (ops.convert_to_tensor(v.astype(np.int8)) for v in (a, b))
    for product in (integers.integer_matmul, integers._float_integer_matmul):
        for run in (product, compiled(product)):
            result = ops.convert_to_numpy(run(left, right))
            assert result.dtype == np.int32
            np.testing.assert_array_equal(result, a.astype(np.int64) @ b)
