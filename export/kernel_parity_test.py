"""One dense layer in Keras against the kernel that runs it in the file, bit for bit.

`wi4_ai4` has no kernel of its own: its file holds the steps as explicit operators, so here only
its arithmetic is checked, which must be exact.
"""

import numpy as np
import pytest
from keras import ops

from asr_qat.backend import compiled
from asr_qat.export.flatbuffer import buffer_bytes, read_model
from asr_qat.export.int_weights import unpack_codes
from asr_qat.export.one_layer import (
    Target,
    accumulators,
    epilogue,
    layer_file,
    row_codes,
    run_file,
)
from asr_qat.layers.dense import Dense
from asr_qat.quantization import integers

SHAPES = [(1, 144, 40), (5, 64, 576), (13, 252, 100), (64, 1024, 33)]  # rows, in, out
DYNAMIC = [f"dynamic_wi{bits}_afp32" for bits in (2, 4, 8)]
BUILTIN = [f"dynamic_wi{bits}_afp32_builtin" for bits in (4, 8)]


def rows_of(rng, rows, k):
    """Random rows of many sizes; silent, constant, one-sided and spiky ones among the first."""
    x = rng.normal(size=(rows, k)) * rng.uniform(0.01, 30, (rows, 1)) + rng.normal(size=(rows, 1))
    if rows > 4:
        x[0], x[1], x[2], x[3, 0], x[4] = 0, 1.5, -np.abs(x[2]), 1e4, np.abs(x[4])
    return x.astype(np.float32)


def dense_layer(rng, k, channels, recipe):
    layer = Dense(channels, precision=recipe)
    layer.build((None, k))
    kernel = rng.normal(size=(k, channels)) * rng.uniform(0.01, 3, channels)
    kernel[:, 0] = 0
    layer.kernel.assign(kernel.astype(np.float32))
    layer.bias.assign(rng.normal(size=channels).astype(np.float32))
    return layer


def trained_integers(layer, x):
    """What the training step multiplies, compiled as there: see the returned names."""

    def step(x, kernel):
        scale = integers.weight_scale(kernel, layer.spec.weight)
        codes = integers.weight_codes(kernel, scale, layer.spec.weight)
        rows = layer.product.quantize_rows(x)
        less_zero = ops.cast(rows.codes, "int32")
        if rows.zero_point is not None:
            less_zero = less_zero - rows.zero_point
        accumulator = integers.accumulate(rows, codes)
        return scale, codes, rows.scale, less_zero, accumulator, layer.product(x, kernel)

    names = ("scale", "codes", "row_scale", "row_codes", "accumulator", "product")
    values = compiled(step)(ops.convert_to_tensor(x), ops.convert_to_tensor(layer.kernel))
    return {k: ops.convert_to_numpy(v) for k, v in zip(names, values, strict=True)}


def units_apart(y, expected, largest):
    """Greatest distance in units of the last place of the largest term of each sum."""
    return np.max(np.abs(y.astype(np.float64) - expected) / np.spacing(np.abs(largest)))


def largest_term_of_builtin(trained, bits):
    """The built-in INT4 kernel takes ``sum a (q + 8)`` and subtracts ``8 sum a`` in float32.

    Its outputs are therefore only as fine as those terms, though its integers are the same.
    """
    shift = 8 if bits == 4 else 0
    sums = np.abs(trained["row_codes"].sum(-1, keepdims=True)).astype(np.float32)
    return shift * sums * trained["row_scale"] * trained["scale"]


@pytest.mark.parametrize("recipe", DYNAMIC + BUILTIN)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_multiplies_the_integers_of_the_training_step(recipe, shape):
    rng = np.random.default_rng(sum(shape))
    rows, k, channels = shape
    x, layer = rows_of(rng, rows, k), dense_layer(rng, k, channels, recipe)
    bits, target = layer.spec.weight.bits, Target.here(layer.spec.activation)
    trained, bias = trained_integers(layer, x), ops.convert_to_numpy(layer.bias)
    codes, scale = np.ascontiguousarray(trained["codes"].T), trained["scale"]
    content = layer_file(codes, scale, bias, bits, rows)

    stored = read_model(content)
    tensor = stored.subgraphs[0].tensors[1]
    packed = buffer_bytes(stored.buffers[tensor.buffer])
    np.testing.assert_array_equal(unpack_codes(packed, bits, tensor.shape), codes)
    np.testing.assert_array_equal(tensor.quantization.scale, scale)
    np.testing.assert_array_equal(
        row_codes(bits, x, trained["row_scale"], target), trained["row_codes"]
    )
    np.testing.assert_array_equal(
        accumulators(codes, bits, x, trained["row_scale"], target), trained["accumulator"]
    )

    y = run_file(content, x, target)
    exact = epilogue(trained["accumulator"], trained["row_scale"], scale, bias, target)
    largest = np.maximum(np.maximum(np.abs(exact), np.abs(bias)), np.abs(trained["product"]))
    if target is Target.BUILTIN:  # it may order the two scales and the bias as it likes
        largest = np.maximum(largest, largest_term_of_builtin(trained, bits))
        assert units_apart(y, exact, largest) <= 4
    else:
        np.testing.assert_array_equal(y, exact)
    for run in (layer, compiled(layer)):
        keras_y = ops.convert_to_numpy(run(ops.convert_to_tensor(x)))
        assert units_apart(keras_y, y, largest) <= (4 if target is Target.BUILTIN else 1)


@pytest.mark.parametrize("k", [64, 252])
def test_six_bits_are_stored_as_eight(k):
    rng = np.random.default_rng(k)
    x, layer = rows_of(rng, 7, k), dense_layer(rng, k, 50, "dynamic_wi6_afp32")
    trained, bias = trained_integers(layer, x), ops.convert_to_numpy(layer.bias)
    assert np.abs(trained["codes"]).max() == 31
    codes, target = np.ascontiguousarray(trained["codes"].T), Target.here("asymmetric_rows")
    content = layer_file(codes, trained["scale"], bias, 6, len(x))
    assert buffer_bytes(read_model(content).buffers[1]).size == codes.size
    y = run_file(content, x, target)
    exact = epilogue(trained["accumulator"], trained["row_scale"], trained["scale"], bias, target)
    np.testing.assert_array_equal(y, exact)


@pytest.mark.parametrize("bits", [4, 8])
def test_weight_only_is_the_float_product_with_dequantized_weights(bits):
    rng = np.random.default_rng(bits)
    layer = dense_layer(rng, 96, 40, f"weight_only_wi{bits}_afp32")
    x, kernel = rows_of(rng, 9, 96), ops.convert_to_tensor(layer.kernel)
    scale = integers.weight_scale(kernel, layer.spec.weight)
    codes = integers.weight_codes(kernel, scale, layer.spec.weight)
    on_grid = ops.convert_to_numpy(codes).astype(np.float64) * ops.convert_to_numpy(scale)
    expected = x.astype(np.float64) @ on_grid + ops.convert_to_numpy(layer.bias)
    for run in (layer, compiled(layer)):
        y = ops.convert_to_numpy(run(ops.convert_to_tensor(x)))
        terms = np.abs(x).astype(np.float64) @ np.abs(on_grid) + 1
        assert np.max(np.abs(y - expected) / terms) < 1e-6


@pytest.mark.parametrize("k", [64, 1024])
def test_four_bit_rows_are_multiplied_exactly(k):
    rng = np.random.default_rng(k)
    x, layer = rows_of(rng, 9, k), dense_layer(rng, k, 40, "wi4_ai4")
    trained = trained_integers(layer, x)
    row_codes_, codes = trained["row_codes"].astype(np.int64), trained["codes"].astype(np.int64)
    assert np.abs(row_codes_).max() == 7 and np.abs(codes).max() == 7
    np.testing.assert_array_equal(trained["accumulator"], row_codes_ @ codes)
    scaled = trained["accumulator"].astype(np.float32) * trained["row_scale"] * trained["scale"]
    np.testing.assert_array_equal(trained["product"], scaled)
