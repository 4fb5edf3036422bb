import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.backend import compiled
from asr_qat.quantization import integers
from asr_qat.quantization.quantizers import (
    Float16Product,
    FloatProduct,
    FourBitProduct,
    IntegerProduct,
    StaticProduct,
    WeightOnlyProduct,
    make_product,
)
from asr_qat.quantization.spec import RECIPES, recipe
from asr_qat.testing import needs_exact_xla


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("float32", FloatProduct),
        ("weight_only_wi4_afp32", WeightOnlyProduct),
        ("dynamic_wi4_afp32", IntegerProduct),
        ("wi4_ai4", FourBitProduct),
        ("float16", Float16Product),
        ("static_wi4_ai8", StaticProduct),
    ],
)
def test_each_spec_gets_its_product(name, kind):
    product = make_product(recipe(name))
    assert type(product) is kind
    assert getattr(product, "weight", None) == recipe(name).weight


def built(name, inputs=64, units=16):
    product = make_product(recipe(name))
    product.build(keras.layers.Layer(), inputs, units)
    return product


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_products_are_close_to_the_float_product_and_compile(name):
    needs_exact_xla(name)
    rng = np.random.default_rng(0)
    x, kernel, bias = (rng.normal(size=s).astype("float32") for s in ((9, 64), (64, 16), 16))
    product, spec = built(name), recipe(name)
    exact = x @ kernel + bias
    steps = 1e3 if spec.weight is None else spec.weight.qmax
    steps = min(steps, {"four_bit_rows": 7, "static_int8": 60}.get(spec.activation, 127))
    operands = [ops.convert_to_tensor(v) for v in (x, kernel, bias)]
    results = [ops.convert_to_numpy(run(*operands)) for run in (product, compiled(product))]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-5)
    # The error of a rounded operand is some 0.6 of a step, and steps are max / levels wide.
    assert np.abs(results[0] - exact).std() / exact.std() < 1.2 / steps
    without = ops.convert_to_numpy(product(*operands[:2]))
    np.testing.assert_allclose(without + bias, results[0], atol=0.3 if "static" in name else 1e-5)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_products_take_any_leading_axes_and_variables(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 5, 8)).astype("float32")
    kernel, bias = (keras.Variable(rng.normal(size=s).astype("float32")) for s in ((8, 4), (4,)))
    product = built(name, 8, 4)
    y = ops.convert_to_numpy(product(ops.convert_to_tensor(x), kernel, bias))
    assert y.shape == (2, 3, 5, 4)
    rows = ops.convert_to_numpy(product(ops.convert_to_tensor(x.reshape(-1, 8)), kernel, bias))
    np.testing.assert_allclose(y.reshape(-1, 4), rows, rtol=1e-6, atol=1e-6)


def test_four_bit_rows_are_rescaled_in_the_order_of_their_file():
    rng = np.random.default_rng(1)
    x, kernel, bias = (rng.normal(size=s).astype("float32") for s in ((9, 64), (64, 16), 16))
    product = built("wi4_ai4")
    assert isinstance(product, IntegerProduct)
    rows = product.quantize_rows(ops.convert_to_tensor(x))
    scale = integers.weight_scale(kernel, product.weight)
    acc = integers.accumulate(rows, integers.weight_codes(kernel, scale, product.weight))
    acc, scale, step = (ops.convert_to_numpy(v) for v in (acc, scale, rows.scale))
    y = product(*(ops.convert_to_tensor(v) for v in (x, kernel, bias)))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(y), (acc.astype("float32") * scale) * step + bias
    )


def test_float16_weights_are_what_the_file_can_hold():
    x = ops.eye(6)
    kernel = np.array([[1 / 3, -1e-9, 65519, 1e9, 6e-8, 2049.0]] * 6, "float32")
    y = ops.convert_to_numpy(built("float16")(x, ops.convert_to_tensor(kernel)))
    expected = np.clip(kernel, -65504, 65504).astype("float16")
    np.testing.assert_array_equal(y.astype("float16"), expected)
    np.testing.assert_array_equal(y, expected.astype("float32"))
