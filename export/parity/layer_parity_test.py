"""One dense layer of every recipe in Keras against every engine that can run its file."""

import dataclasses
import platform

import numpy as np
import pytest
from keras import ops

from asr_qat.export.parity.four_bit_parity import code_scale
from asr_qat.export.parity.kernels import Target, run_file
from asr_qat.export.parity.layer_file import file_of
from asr_qat.export.parity.layer_parity import StoredWeights, check_layer
from asr_qat.layers.dense import Dense
from asr_qat.quantization.ranges import RangeError
from asr_qat.quantization.spec import RECIPES
from asr_qat.testing import needs_exact_xla

SHAPES = [(1, 144, 40), (13, 252, 100)]  # rows, in, out
XNNPACK = Target.here()
ENGINES = [XNNPACK, Target.BUILTIN, Target.REFERENCE]
X86 = platform.machine().lower() in ("x86_64", "amd64")


def rows_of(rng, rows, k):
    """Random rows of many sizes; silent, constant, one-sided and spiky ones among the first."""
    x = rng.normal(size=(rows, k)) * rng.uniform(0.01, 30, (rows, 1)) + rng.normal(size=(rows, 1))
    if rows > 4:
        x[0], x[1], x[2], x[3, 0], x[4] = 0, 1.5, -np.abs(x[2]), 1e4, np.abs(x[4])
    return x.astype(np.float32)


def dense_layer(rng, k, channels, recipe, x=None):
    """A layer with random weights, one channel silent; static ranges from the rows."""
    layer = Dense(channels, precision=recipe)
    layer.build((None, k))
    kernel = rng.normal(size=(k, channels)) * rng.uniform(0.01, 3, channels)
    kernel[:, 0] = 0
    layer.kernel.assign(kernel.astype(np.float32))
    layer.bias.assign(rng.normal(size=channels).astype(np.float32))
    if "static" in recipe and x is not None:
        layer(np.clip(x, -40, 50), training=True)
    return layer


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.value)
@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_engine_multiplies_the_integers_of_the_training_step(recipe, engine):
    needs_exact_xla(recipe)
    for shape in SHAPES:
        rng = np.random.default_rng(sum(shape))
        rows, k, channels = shape
        x = rows_of(rng, rows, k)
        layer = dense_layer(rng, k, channels, recipe, x)
        result = check_layer(layer, x, StoredWeights(file_of(layer, rows)), engine)
        assert result.bit_equal, result
        assert (result.path, result.recipe) == (layer.path, recipe)
        assert (result.rows, result.shape, result.target) == (rows, (k, channels), engine.value)
        if engine is XNNPACK and layer.spec.activation not in ("float", "symmetric_rows"):
            assert result.keras_ulps <= 1, result
        if engine is Target.REFERENCE and layer.spec.activation == "symmetric_rows":
            assert result.keras_ulps <= 8, result


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.value)
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("k", [30, 34, 63])
def test_which_formula_quantizes_the_rows(bits, engine, asymmetric, k):
    rng = np.random.default_rng(k)
    x = rows_of(rng, 7, k) + 0.5
    layer = dense_layer(rng, k, 12, f"dynamic_wi{bits}_afp32")
    stored = StoredWeights(file_of(layer, 7, asymmetric))
    assert stored.products[0].asymmetric == asymmetric
    result = check_layer(layer, x, stored, engine)
    assert result.bit_equal, result
    same = engine.asymmetric(bits, (12, k), asymmetric)
    assert same == (result.keras_ulps < 100), result


@pytest.mark.parametrize("k", [62, 63, 64])
def test_four_bit_rows_keep_their_scale_but_on_the_optimized_kernel(k):
    rng = np.random.default_rng(k)
    x, layer = rows_of(rng, 9, k), dense_layer(rng, k, 12, "wi4_ai4")
    layer.bias.assign(np.zeros(12, np.float32))
    keras = ops.convert_to_numpy(layer(x))
    for engine in ENGINES:
        for asymmetric in (False, True):
            y = run_file(file_of(layer, 9, asymmetric), x, engine)
            step = code_scale(engine, (12, k + 2), asymmetric)
            np.testing.assert_allclose(y, keras * step, rtol=1e-4, atol=1e-3)
            if step == 1:
                np.testing.assert_array_equal(y, keras)
    assert code_scale(XNNPACK, (12, 66), True) == 1
    assert code_scale(Target.REFERENCE, (12, 66), True) == 1
    assert code_scale(Target.BUILTIN, (12, 66), True) == np.float32(128 / 127)


@pytest.mark.skipif(not X86, reason="only x86-64 has been measured")
@pytest.mark.parametrize(
    ("recipe", "engine_operators"),
    [
        ("float16", 0),
        ("dynamic_wi4_afp32", 0),
        ("static_wi4_ai8", 0),
        ("static_wi8_ai8", 0),
        ("wi4_ai4", 0),
        ("weight_only_wi8_afp32", 0),
        ("weight_only_wi4_afp32", 2),
    ],
)
def test_xnnpack_takes_the_whole_file(recipe, engine_operators):
    rng = np.random.default_rng(0)
    x = rows_of(rng, 5, 64)
    layer = dense_layer(rng, 64, 12, recipe, x)
    interpreter = XNNPACK.interpreter(file_of(layer, 5))
    interpreter.allocate_tensors()
    names = [op["op_name"] for op in interpreter._get_ops_details()]
    assert ("DELEGATE" in names) == (engine_operators == 0), names
    if not engine_operators:
        delegates = [n for n in names if n == "DELEGATE"]
        assert len(delegates) == 1


def test_static_edges_of_scale_and_ties():
    """Values on ties of both roundings, where the engines part."""
    needs_exact_xla("static_wi8_ai8")
    rng = np.random.default_rng(3)
    layer = dense_layer(rng, 64, 48, "static_wi8_ai8")
    layer.product.input_range.value.assign(np.array([-4, 4.5], np.float32))
    layer.product.output_range.value.assign(np.array([-60, 70], np.float32))
    step = np.float32(8.5) * np.float32(1 / 255)
    x = (np.arange(64 * 64).reshape(64, 64) % 240 - 119.5).astype(np.float32) * step
    stored = StoredWeights(file_of(layer, 64))
    results = [check_layer(layer, x, stored, engine) for engine in ENGINES]
    assert all(result.bit_equal for result in results), results
    assert results[0].keras_ulps == 0


def test_a_static_layer_without_ranges_cannot_be_checked():
    layer = dense_layer(np.random.default_rng(0), 8, 4, "static_wi4_ai8")
    with pytest.raises(RangeError, match="have never been observed: dense"):
        check_layer(layer, np.ones((2, 8), np.float32), StoredWeights(file_of(layer, 2)))


@pytest.mark.parametrize(
    "recipe",
    ["float32", "float16", "weight_only_wi4_afp32", "dynamic_wi4_afp32", "static_wi4_ai8"]
    + ["wi4_ai4"],
)
def test_a_changed_file_is_noticed(recipe):
    rng = np.random.default_rng(5)
    x = rows_of(rng, 5, 64)
    layer = dense_layer(rng, 64, 12, recipe, x)
    good = StoredWeights(file_of(layer, 5))
    product = good.products[0]
    changed = product.weight.copy()
    changed[3, 7] = changed[3, 7] + 1 if changed[3, 7] < 7 else 0
    stored = StoredWeights(file_of(layer, 5))
    stored.products = [dataclasses.replace(product, weight=changed)]
    result = check_layer(layer, x, stored)
    assert result.codes_differ == 1 and result.scales_differ == 0 and not result.bit_equal
    if layer.spec.activation != "float":
        assert result.accumulators_differ > 0
    if product.scale is not None:
        scale = product.scale.copy()
        scale[2] = np.nextafter(scale[2], np.float32(9))
        stored.products = [dataclasses.replace(product, scale=scale)]
        result = check_layer(layer, x, stored)
        assert (result.codes_differ, result.scales_differ) == (0, 1) and not result.bit_equal
    stored.products = []
    result = check_layer(layer, x, stored)
    assert not result.bit_equal and result.codes_differ >= 12 * 64


def test_the_nearest_of_several_products_is_found_by_name_then_by_value():
    rng = np.random.default_rng(6)
    layers = [dense_layer(rng, 16, 4, "dynamic_wi4_afp32") for _ in range(3)]
    stored = StoredWeights(file_of(layers[0], 2))
    stored.products += [StoredWeights(file_of(layer, 2)).products[0] for layer in layers[1:]]
    x = rows_of(rng, 2, 16)
    assert all(check_layer(layer, x, stored).bit_equal for layer in layers)
    stored.products[0] = dataclasses.replace(stored.products[0], name=layers[1].path)
    assert not check_layer(layers[1], x, stored).bit_equal
