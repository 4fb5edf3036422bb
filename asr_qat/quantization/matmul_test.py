"""The native product and its gradient, against the formulas in NumPy."""

import numpy as np
import pytest
from keras import ops

from asr_qat.backend import compiled
from asr_qat.quantization import integers
from asr_qat.quantization.matmul import (
    dequantized_kernel,
    float16_kernel,
    quantized_matmul,
    weight_only_matmul,
)
from asr_qat.quantization.quantizers import ROW_QUANTIZERS
from asr_qat.quantization.spec import WeightSpec
from asr_qat.testing import gradient_of, needs_exact_xla

F32 = np.float32
SPECS = [
    WeightSpec(bits=4),
    WeightSpec(bits=8, scale_gradient=False),
    WeightSpec(bits=2),
    WeightSpec(bits=4, divisor=4.0),
    WeightSpec(bits=4, divisor=10.0),  # some weights are clipped
]
QUANTIZERS = {**ROW_QUANTIZERS, "four_bit_rows": integers.four_bit_rows}
ROWS = sorted(QUANTIZERS)


def operands(seed=0, rows=6, k=24, channels=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, k)) * rng.uniform(0.1, 10, (rows, 1)) + rng.normal(size=(rows, 1))
    kernel, dy = rng.normal(size=(k, channels)), rng.normal(size=(rows, channels))
    return x.astype(F32), kernel.astype(F32), dy.astype(F32)


def integer_operands(x, kernel, spec, quantize_rows):
    """Rows less zero point and their step, weight codes and their scale, as NumPy arrays."""
    rows = quantize_rows(ops.convert_to_tensor(x))
    scale = integers.weight_scale(ops.convert_to_tensor(kernel), spec)
    codes = integers.weight_codes(ops.convert_to_tensor(kernel), scale, spec)
    a = ops.convert_to_numpy(rows.codes).astype(np.int64)
    if rows.zero_point is not None:
        a = a - ops.convert_to_numpy(rows.zero_point)
    q = ops.convert_to_numpy(codes).astype(np.int64)
    return a, ops.convert_to_numpy(rows.scale), q, ops.convert_to_numpy(scale)


def expected_kernel_gradient(dw, kernel, q, scale, spec):
    """Straight through the rounding, and through the scale into each channel's largest weight."""
    ratio = kernel / scale
    inside = np.abs(ratio) <= spec.qmax + 0.5
    gradient = dw * inside
    if spec.scale_gradient:
        dscale = (dw * (q - ratio * inside)).sum(0)
        largest, channels = np.abs(kernel).argmax(0), np.arange(kernel.shape[1])
        direction = np.sign(kernel[largest, channels]) / (spec.divisor or spec.qmax)
        gradient[largest, channels] += dscale * direction
    return gradient


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("rows", ROWS)
def test_forward_is_the_integer_product_rescaled(rows, spec):
    x, kernel, _ = operands()
    a, step, q, scale = integer_operands(x, kernel, spec, QUANTIZERS[rows])
    expected = ((a @ q).astype(F32) * step) * scale

    def product(x, kernel):
        return quantized_matmul(x, kernel, spec, QUANTIZERS[rows])

    for run in (product, compiled(product)):
        y = run(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel))
        np.testing.assert_array_equal(ops.convert_to_numpy(y), expected)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("rows", ROWS)
def test_gradients_are_those_of_the_dequantized_operands(rows, spec):
    x, kernel, dy = operands(1)
    a, step, q, scale = integer_operands(x, kernel, spec, QUANTIZERS[rows])

    def of_x(x):
        return ops.sum(quantized_matmul(x, kernel, spec, QUANTIZERS[rows]) * dy)

    def of_kernel(kernel):
        x_tensor = ops.convert_to_tensor(x)
        return ops.sum(quantized_matmul(x_tensor, kernel, spec, QUANTIZERS[rows]) * dy)

    np.testing.assert_allclose(gradient_of(of_x, x), dy @ (q * scale).T, rtol=1e-4, atol=1e-4)
    dw = (a * step).T @ dy
    expected = expected_kernel_gradient(dw, kernel, q, scale, spec)
    np.testing.assert_allclose(gradient_of(of_kernel, kernel), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_weight_only_product_and_its_gradients(spec):
    x, kernel, dy = operands(2)
    _, _, q, scale = integer_operands(x, kernel, spec, integers.asymmetric_rows)
    on_grid = q.astype(F32) * scale

    def moved(kernel):
        return dequantized_kernel(kernel, spec)

    for run in (moved, compiled(moved)):
        result = ops.convert_to_numpy(run(ops.convert_to_tensor(kernel)))
        np.testing.assert_array_equal(result, on_grid)
    y = weight_only_matmul(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel), spec)
    np.testing.assert_allclose(ops.convert_to_numpy(y), x @ on_grid, rtol=1e-5, atol=1e-5)

    def of_kernel(kernel):
        return ops.sum(weight_only_matmul(ops.convert_to_tensor(x), kernel, spec) * dy)

    expected = expected_kernel_gradient(x.T @ dy, kernel, q, scale, spec)
    np.testing.assert_allclose(gradient_of(of_kernel, kernel), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows", ROWS)
def test_scale_gradient_equals_finite_differences(rows):
    """Growing a channel as a whole leaves its codes alone: there the product is smooth."""
    spec = WeightSpec(bits=4)
    x, kernel, dy = operands(3)

    def loss(kernel):
        x_tensor = ops.convert_to_tensor(x)
        return ops.sum(quantized_matmul(x_tensor, kernel, spec, QUANTIZERS[rows]) * dy)

    gradient = gradient_of(loss, kernel)
    for channel in range(kernel.shape[1]):
        sides = []
        for factor in (F32(2), F32(0.5)):  # powers of two: exact, so the codes cannot move
            grown = kernel.copy()
            grown[:, channel] *= factor
            sides.append(float(loss(ops.convert_to_tensor(grown))))
        slope = (sides[0] - sides[1]) / 1.5
        along = np.sum(gradient[:, channel] * kernel[:, channel])
        np.testing.assert_allclose(along, slope, rtol=1e-3, atol=1e-2)


def test_without_scale_gradient_the_gradient_is_straight_through():
    spec = WeightSpec(bits=4, scale_gradient=False)
    x, kernel, dy = operands(4)

    def loss(kernel):
        return ops.sum(dequantized_kernel(kernel, spec) * (x.T @ dy))

    np.testing.assert_array_equal(gradient_of(loss, kernel), x.T @ dy)


def test_float16_weights_have_a_straight_gradient():
    needs_exact_xla("float16")
    x, kernel, dy = operands(6)
    for run in (float16_kernel, compiled(float16_kernel)):
        rounded = ops.convert_to_numpy(run(ops.convert_to_tensor(kernel)))
        np.testing.assert_array_equal(rounded, kernel.astype(np.float16).astype(F32))

    def loss(kernel):
        return ops.sum(float16_kernel(kernel) * (x.T @ dy))

    np.testing.assert_array_equal(gradient_of(loss, kernel), x.T @ dy)


def test_a_channel_of_zeros_and_a_silent_row_give_zeros_and_finite_gradients():
    x, kernel, dy = operands(5)
    x[0], kernel[:, 0] = 0, 0
    spec = WeightSpec(bits=4)

    def loss(kernel):
        x_tensor = ops.convert_to_tensor(x)
        return ops.sum(quantized_matmul(x_tensor, kernel, spec, integers.asymmetric_rows) * dy)

    y = quantized_matmul(
        ops.convert_to_tensor(x), ops.convert_to_tensor(kernel), spec, integers.asymmetric_rows
    )
    y = ops.convert_to_numpy(y)
    assert np.all(y[0] == 0) and np.all(y[:, 0] == 0)
    assert np.isfinite(gradient_of(loss, kernel)).all()
