"""The static product, against NumPy written out, eager and compiled by XLA, on any backend."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.backend import compiled
from asr_qat.quantization import static
from asr_qat.quantization.spec import WeightSpec
from asr_qat.testing import gradient_of

F32 = np.float32
BITS = (4, 8)


def f32(values):
    return np.array(values, F32)


def reference_affine(low, high, least=0.0):
    """Scale and zero point of a range, in float32."""
    scale = max(max(F32(high - low), F32(1e-30)) * F32(1 / 255), F32(least))
    return scale, -128 - int(np.rint(low * (F32(1) / scale)))


def reference(x, kernel, bias, bits, in_range, out_range):
    """QUANTIZE, FULLY_CONNECTED, DEQUANTIZE as XNNPACK computes them."""
    qmax = 2 ** (bits - 1) - 1
    scale = np.abs(kernel).max(0) * F32(1 / qmax)
    scale = np.where(scale > 0, scale, F32(1))
    q = np.clip(np.rint(kernel * (F32(1) / scale)), -qmax, qmax).astype(np.int64)
    in_scale, in_zero = reference_affine(*in_range)
    a = np.clip(np.rint(x * (F32(1) / in_scale)) + in_zero, -128, 127).astype(np.int64)
    unit = in_scale * scale
    b = np.clip(np.rint(bias * (F32(1) / unit)), -(2.0**30), 2.0**30).astype(np.int64)
    accumulator = (a - in_zero) @ q + b
    low, high = out_range
    out_scale, out_zero = reference_affine(low, high, unit.max() * F32(1 / 128))
    y = np.rint(accumulator.astype(F32) * (unit / out_scale)) + out_zero
    y = np.clip(y, -128, 127)
    return accumulator, y, ((y - out_zero).astype(F32) * out_scale).astype(F32)


def operands(seed=0, rows=7, k=24, channels=5):
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=(rows, k)) * 3, rng.normal(size=(k, channels))
    kernel = kernel * rng.uniform(0.01, 3, channels)
    bias, dy = rng.normal(size=channels), rng.normal(size=(rows, channels))
    return [v.astype(F32) for v in (x, kernel, bias, dy)]


def fixed(low, high):
    """A range that no tensor changes."""
    return lambda _: ops.convert_to_tensor(np.array([low, high], F32))


def step(weight, in_range, out_range):
    def run(x, kernel, bias):
        scale = static.integers.weight_scale(kernel, weight)
        found = static.static_integers(
            x, kernel, bias, scale, weight, fixed(*in_range), fixed(*out_range)
        )
        y = static.static_matmul(x, kernel, bias, weight, fixed(*in_range), fixed(*out_range))
        return found.accumulator, found.result, y

    return run


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(1, 8, 1), (300, 144, 200)], ids=str)
def test_the_integers_equal_the_reference_whoever_compiles(bits, shape):
    x, kernel, bias, _ = operands(bits, *shape)
    kernel[:, 0] = 0
    spans = f32([[-7.3, 9.1], [-20.1, 13.7]])
    expected = reference(x, kernel, bias, bits, *spans)
    run = step(WeightSpec(bits=bits), *spans)
    for function in (run, compiled(run)):
        results = function(*(ops.convert_to_tensor(v) for v in (x, kernel, bias)))
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(result), wanted)


def test_the_multiplier_is_a_division_whoever_compiles():
    rng = np.random.default_rng(0)
    unit = rng.uniform(1e-6, 1e-1, 20000).astype(F32)
    for scale in rng.uniform(1e-3, 3, 5).astype(F32):
        assert np.any(unit / scale != unit * (F32(1) / scale))
        for run in (static.output_multiplier, compiled(static.output_multiplier)):
            result = run(ops.convert_to_tensor(unit), ops.convert_to_tensor(scale))
            np.testing.assert_array_equal(ops.convert_to_numpy(result), unit / scale)


@settings(deadline=None, max_examples=60)
@given(low=st.floats(-1e6, 0, width=32), high=st.floats(0, 1e6, width=32))
def test_zero_has_a_code_and_the_ends_are_within_a_step(low, high):
    scale, zero = (float(v) for v in static.affine(ops.convert_to_tensor(f32([low, high]))))
    assert zero == round(zero) and -128 <= zero <= 127 and scale > 0
    assert (scale, zero) == reference_affine(F32(low), F32(high))
    tolerance = 0.5 * scale * (1 + 1e-3)
    assert abs((-128 - zero) * scale - low) <= tolerance or high - low < 1e-29
    assert abs((127 - zero) * scale - high) <= tolerance or high - low < 1e-29


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), size=st.floats(-6, 6))
def test_codes_stand_for_values_inside_the_range(seed, size):
    x = (np.random.default_rng(seed).normal(size=40) * 10**size).astype(F32)
    bounds = f32([min(x.min(), 0), max(x.max(), 0)])
    to = static.affine(ops.convert_to_tensor(bounds))
    codes, inside = static.quantize(ops.convert_to_tensor(x), to)
    codes = ops.convert_to_numpy(codes)
    assert codes.min() >= -128 and codes.max() <= 127 and np.all(codes == np.rint(codes))
    # The zero point's own rounding may push the end of the range half a step out.
    error = np.abs((codes - float(to.zero_point)) * float(to.scale) - x)
    assert np.all(error <= float(to.scale) * 1.001)
    assert ops.convert_to_numpy(inside).mean() > 0.9


@pytest.mark.parametrize("bits", BITS)
def test_gradients_go_straight_through_inside_the_ranges(bits):
    x, kernel, bias, dy = operands(3)
    spans = f32([[-4.0, 4.5], [-9.0, 8.0]])
    assert np.any(x < -4.1) and np.any(x > 4.6)
    weight = WeightSpec(bits=bits, scale_gradient=False)

    def loss(x, kernel, bias):
        y = static.static_matmul(x, kernel, bias, weight, *(fixed(*span) for span in spans))
        return ops.sum(y * dy)

    t = [ops.convert_to_tensor(v) for v in (x, kernel, bias)]
    of_x = gradient_of(lambda v: loss(v, t[1], t[2]), x)
    of_kernel = gradient_of(lambda v: loss(t[0], v, t[2]), kernel)
    of_bias = gradient_of(lambda v: loss(t[0], t[1], v), bias)
    in_scale, in_zero = reference_affine(*spans[0])
    codes = np.rint(x * (F32(1) / in_scale)) + in_zero
    inside = (codes >= -128) & (codes <= 127)
    a = (np.clip(codes, -128, 127) - in_zero) * in_scale
    scale = np.abs(kernel).max(0) * F32(1 / weight.qmax)
    q = np.rint(kernel / scale) * scale
    out_scale, out_zero = reference_affine(*spans[1])
    accumulator, _, _ = reference(x, kernel, bias, bits, *spans)
    out = np.rint(accumulator.astype(F32) * (in_scale * scale / out_scale)) + out_zero
    upstream = dy * ((out >= -128) & (out <= 127))
    assert 0.1 < (upstream != 0).mean() < 1 and inside.mean() < 1
    np.testing.assert_allclose(of_x, (upstream @ q.T) * inside, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_kernel, a.T @ upstream, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(of_bias, upstream.sum(0), rtol=1e-4, atol=1e-4)


def test_one_accumulator_step_is_never_256_codes():
    """A kernel of one silent channel (scale 1) and of small others: XNNPACK would refuse it."""
    x, kernel, bias, _ = operands(4)
    kernel, bias = kernel * F32(1e-6), bias * 0
    kernel[:, 0] = 0
    kernel, bias = (ops.convert_to_tensor(v) for v in (kernel, bias))
    ranges = (ops.convert_to_tensor(f32(v)) for v in ([-9, 9], [-1e-5, 1e-5]))
    layer = static.frozen(kernel, bias, WeightSpec(bits=8), *ranges)
    unit = ops.convert_to_numpy(layer.scale) * float(layer.input.scale)
    assert unit.max() / float(layer.output.scale) <= 128.001
