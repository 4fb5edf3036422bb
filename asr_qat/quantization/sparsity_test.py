import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.quantization.quantizers import make_product
from asr_qat.quantization.sparsity import (
    PrunedProduct,
    cubic_sparsity,
    magnitude_mask,
    masked_kernel,
)
from asr_qat.quantization.spec import recipe
from asr_qat.testing import compiled, gradient_of

RECIPES = (
    "float32",
    "dynamic_wi4_afp32",
    "dynamic_wi8_afp32_builtin",
    "weight_only_wi4_afp32",
    "wi4_ai4",
)


def test_the_schedule():
    assert [cubic_sparsity(s, 100, 200, 0.8) for s in (0, 100)] == [0, 0]
    assert cubic_sparsity(150, 100, 200, 0.8) == pytest.approx(0.8 * 7 / 8)
    assert cubic_sparsity(120, 100, 200, 0.5) == pytest.approx(0.5 * (1 - 0.8**3))
    assert [cubic_sparsity(s, 100, 200, 0.8) for s in (200, 10**6)] == [0.8, 0.8]


@settings(deadline=None)
@given(
    inputs=st.integers(1, 12),
    blocks=st.integers(1, 6),
    block=st.sampled_from([1, 2, 8]),
    sparsity=st.floats(0, 1),
    values=st.sampled_from([(0.0,), (1.0, -1.0), (0.5, -1.0, 2.0), None]),
    seed=st.integers(0, 99),
)
def test_so_many_whole_blocks_go_and_they_are_the_smallest(
    inputs, blocks, block, sparsity, values, seed
):
    rng = np.random.default_rng(seed)
    shape = (inputs, blocks * block)
    kernel = rng.normal(size=shape) if values is None else rng.choice(values, shape)
    kernel = kernel.astype(np.float32)
    mask = magnitude_mask(kernel, sparsity, block)
    assert mask.dtype == np.float32 and mask.shape == shape and set(mask.flat) <= {0, 1}
    by_block = mask.reshape(-1, block)
    assert (by_block == by_block[:, :1]).all()
    stay = by_block[:, 0] == 1
    assert np.count_nonzero(~stay) == round(sparsity * inputs * blocks)
    sizes = np.abs(kernel).reshape(-1, block).mean(axis=1)
    if stay.any() and not stay.all():
        assert sizes[~stay].max() <= sizes[stay].min()
        equal = np.flatnonzero(sizes == sizes[~stay].max())  # the first of equal ones go
        assert (np.diff(stay[equal].astype(int)) >= 0).all()


def test_blocks_lie_along_the_outputs():
    kernel = np.ones((3, 16), np.float32)
    kernel[1, :8] = kernel[2, 8:] = 0.1
    kernel[0, 3] = 0  # alone it would be the first
    zeros = np.zeros((3, 16))
    zeros[1, :8] = zeros[2, 8:] = 1
    np.testing.assert_array_equal(magnitude_mask(kernel, 2 / 6, 8), 1 - zeros)


def test_outputs_that_are_no_whole_number_of_blocks():
    with pytest.raises(ValueError, match="3 inputs and 12 outputs .* blocks of 8 outputs"):
        magnitude_mask(np.ones((3, 12), np.float32), 0.5, 8)


def test_masking_is_exact_and_its_gradient_straight():
    rng = np.random.default_rng(0)
    kernel = (rng.normal(size=(5, 4)) * 10.0 ** rng.integers(-6, 6, (5, 4))).astype(np.float32)
    mask = rng.integers(0, 2, (5, 4)).astype(np.float32)
    weighting = rng.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(compiled(masked_kernel)(kernel, mask), kernel * mask)
    gradient = gradient_of(lambda k: ops.sum(masked_kernel(k, mask) * weighting), kernel)
    np.testing.assert_array_equal(gradient, weighting)


@pytest.mark.parametrize("name", RECIPES)
def test_a_pruned_product_is_the_product_of_the_pruned_kernel(name):
    rng = np.random.default_rng(1)
    x, bias = rng.normal(size=(6, 24)).astype(np.float32), np.zeros(16, np.float32)
    kernel = rng.normal(size=(24, 16)).astype(np.float32)
    kernel[3] *= 0.5 + np.arange(16) / 4
    mask = np.where(np.abs(kernel) > 1.5, 0, 1).astype(np.float32)  # the scales depend on it
    product = make_product(recipe(name))
    y = PrunedProduct(product, ops.convert_to_tensor(mask))(x, kernel, bias)
    np.testing.assert_array_equal(y, product(x, kernel * mask, bias))


@pytest.mark.parametrize("name", RECIPES)
def test_pruned_weights_get_the_gradient_of_weights_that_are_zero(name):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 24)).astype(np.float32)
    kernel = rng.normal(size=(24, 16)).astype(np.float32)
    mask = magnitude_mask(kernel, 0.6)
    weighting = rng.normal(size=(6, 16)).astype(np.float32)
    product = make_product(recipe(name))
    pruned = PrunedProduct(product, ops.convert_to_tensor(mask))
    ours = gradient_of(lambda k: ops.sum(pruned(x, k) * weighting), kernel)
    at_zero = gradient_of(lambda k: ops.sum(product(x, k) * weighting), kernel * mask)
    np.testing.assert_array_equal(ours, at_zero)
    assert (ours[mask == 0] != 0).all()
