import numpy as np
import pytest
from keras import ops

from asr_qat.backend import compiled
from asr_qat.quantization import integers
from asr_qat.quantization.quantizers import (
    FloatProduct,
    IntegerProduct,
    WeightOnlyProduct,
    make_product,
)
from asr_qat.quantization.spec import RECIPES, recipe


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("float32", FloatProduct),
        ("weight_only_wi4_afp32", WeightOnlyProduct),
        ("dynamic_wi4_afp32", IntegerProduct),
        ("wi4_ai4", IntegerProduct),
    ],
)
def test_each_spec_gets_its_product(name, kind):
    product = make_product(recipe(name))
    assert type(product) is kind
    assert getattr(product, "weight", None) == recipe(name).weight


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_products_are_close_to_the_float_product_and_compile(name):
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype("float32") for s in ((9, 64), (64, 16)))
    product = make_product(recipe(name))
    exact = x @ kernel
    spec = recipe(name)
    steps = 1e6 if spec.weight is None else spec.weight.qmax
    steps = min(steps, 7 if spec.activation == "four_bit_rows" else 127)
    results = [
        ops.convert_to_numpy(run(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)))
        for run in (product, compiled(product))
    ]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-5)
    # The error of a rounded operand is some 0.6 of a step, and steps are max / levels wide.
    assert np.abs(results[0] - exact).std() / exact.std() < 1.2 / steps


def test_rows_of_four_bits_hold_codes_up_to_seven():
    product = make_product(recipe("wi4_ai4"))
    assert isinstance(product, IntegerProduct)
    rows = product.quantize_rows(ops.convert_to_tensor(np.linspace(-3, 5, 40, dtype="f4")[None]))
    codes = ops.convert_to_numpy(rows.codes)
    assert rows.zero_point is None and (codes.min(), codes.max()) == (-4, 7)
    assert product.quantize_rows is not integers.symmetric_rows
