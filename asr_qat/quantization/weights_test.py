import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.backend import compiled
from asr_qat.layers.dense import Dense
from asr_qat.quantization import integers
from asr_qat.quantization.spec import WeightSpec
from asr_qat.quantization.weights import (
    LEAST_SHARE,
    clipped,
    distance_from_grid,
    drawn_width,
    lloyd_max_step,
)

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_t(3, size=(256, 6)).astype(np.float32)
X = RNG.normal(size=(5, 256)).astype(np.float32)


def dense(name):
    layer = Dense(6, precision=name)
    layer.build((None, 256))
    layer.kernel.assign(KERNEL)
    return layer


def rounding_error(kernel, share, spec):
    """Squared error of the integers that stand for the kernel."""
    within = clipped(kernel, ops.convert_to_tensor(share))
    scale = integers.weight_scale(within, spec)
    codes = ops.cast(integers.weight_codes(within, scale, spec), "float32")
    return np.sum((KERNEL - ops.convert_to_numpy(codes * scale)) ** 2, axis=0)


def test_clipping_leaves_a_share_of_the_largest_weight():
    share = np.array([1.0, 0.5, 0.25, 2.0, 0.0, LEAST_SHARE], np.float32)
    found = ops.convert_to_numpy(clipped(KERNEL, ops.convert_to_tensor(share)))
    largest = np.abs(KERNEL).max(axis=0)
    wanted = largest * np.clip(share, np.float32(LEAST_SHARE), 1)
    np.testing.assert_array_equal(np.abs(found).max(axis=0), wanted)
    inside = np.abs(KERNEL) <= wanted
    np.testing.assert_array_equal(found[inside], KERNEL[inside])
    np.testing.assert_array_equal(np.sign(found), np.sign(KERNEL))


@pytest.mark.parametrize("bits", [2, 4])
def test_lloyds_steps_lower_the_error_to_a_minimum(bits):
    spec = WeightSpec(bits=bits)
    share = np.ones(6, np.float32)
    errors = [rounding_error(KERNEL, share, spec)]
    for _ in range(30):
        share = ops.convert_to_numpy(lloyd_max_step(KERNEL, ops.convert_to_tensor(share), spec))
        errors.append(rounding_error(KERNEL, share, spec))
    assert np.all(np.diff(np.array(errors), axis=0) <= 1e-3 * errors[0])
    assert np.all(errors[-1] < 0.9 * errors[0])
    for factor in (0.97, 1.03):  # no better share is near
        assert np.all(rounding_error(KERNEL, share * np.float32(factor), spec) > 0.97 * errors[-1])


@pytest.mark.parametrize("clipping", ["learned", "lloyd_max"])
def test_on_trained_weights_clipping_starts_where_the_error_is_least(clipping):
    layer = dense(f"dynamic_wi2_afp32,clipping:{clipping}")
    layer.product.start_from(ops.convert_to_tensor(KERNEL))
    share = ops.convert_to_numpy(layer.product.weights.clipping.share)
    spec = WeightSpec(bits=2)
    start = rounding_error(KERNEL, np.ones(6, np.float32), spec)
    assert np.all(rounding_error(KERNEL, share, spec) < 0.8 * start)
    step = lloyd_max_step(KERNEL, ops.convert_to_tensor(share), spec)
    np.testing.assert_allclose(ops.convert_to_numpy(step), share, rtol=1e-5)


def test_a_silent_channel_keeps_its_share():
    found = lloyd_max_step(np.zeros((4, 2), np.float32), ops.ones((2,)), WeightSpec(bits=4))
    np.testing.assert_array_equal(ops.convert_to_numpy(found), 1)


@pytest.mark.parametrize("name", ["dynamic_wi4_afp32", "static_wi4_ai8", "wi4_ai4"])
@pytest.mark.parametrize("clipping", ["learned", "lloyd_max"])
def test_a_file_stores_the_codes_of_the_clipped_kernel(name, clipping):
    """The layer computes what the recipe without options computes with the served kernel."""
    layer = dense(f"{name},clipping:{clipping}")
    layer(X, training=True)
    layer.product.weights.clipping.share.assign(np.linspace(0.2, 1.0, 6, dtype=np.float32))
    plain = dense(name)
    plain.kernel.assign(layer.served_kernel())
    if name.startswith("static"):
        for own, other in zip(layer.weights[-2:], plain.weights[-2:], strict=True):
            other.assign(own)
    np.testing.assert_array_equal(
        *(ops.convert_to_numpy(compiled(each)(ops.convert_to_tensor(X))) for each in (layer, plain))
    )
    again = ops.convert_to_numpy(plain.served_kernel())
    assert np.abs(again).max() < np.abs(KERNEL).max()


def gradients(layer, x):
    """Of the sum of the squared outputs, by the weight's name."""
    if keras.backend.backend() == "jax":
        import jax

        def loss(values):
            y, _ = layer.stateless_call(values, [v.value for v in others], x, training=True)
            return ops.sum(y * y)

        others = layer.non_trainable_variables
        found = jax.grad(loss)([v.value for v in layer.trainable_variables])
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = ops.sum(ops.square(layer(x, training=True)))
        found = tape.gradient(loss, [v.value for v in layer.trainable_variables])
    names = [v.name for v in layer.trainable_variables]
    return {n: ops.convert_to_numpy(g) for n, g in zip(names, found, strict=True)}


def test_the_share_gets_its_gradient_from_weights_and_scale():
    layer = dense("dynamic_wi4_afp32,clipping:learned")
    layer.product.weights.clipping.share.assign(np.full(6, 0.5, np.float32))
    found = gradients(layer, X)
    assert np.all(found["clip"] != 0)
    largest = np.abs(KERNEL).max(axis=0)
    beyond = (np.abs(KERNEL) > 0.5 * largest) & (np.abs(KERNEL) < largest)
    assert beyond.any() and not found["kernel"][beyond].any()
    assert np.all(found["kernel"][~beyond & (np.abs(KERNEL) < largest)] != 0)


def test_the_pull_is_zero_on_the_grid_and_draws_towards_it():
    spec = WeightSpec(bits=4)
    kernel = ops.convert_to_tensor(KERNEL)
    scale = integers.weight_scale(kernel, spec)
    on_grid = ops.cast(integers.weight_codes(kernel, scale, spec), "float32") * scale
    assert float(distance_from_grid(on_grid, spec)) < 1e-5
    halfway = (ops.floor(kernel / scale) + 0.5) * scale
    halfway = ops.where(ops.abs(kernel) == ops.max(ops.abs(kernel), axis=0), kernel, halfway)
    assert 0.9 < float(distance_from_grid(halfway, spec)) < 1.1
    layer = dense("dynamic_wi4_afp32,pull:0.5")
    layer(X, training=True)
    assert len(layer.losses) == 1
    np.testing.assert_allclose(layer.losses[0], 0.5 * distance_from_grid(kernel, spec), rtol=1e-6)
    layer(X)
    assert not layer.losses


def test_every_width_is_drawn_and_computes_its_own_codes():
    layer = dense("dynamic_wi4_afp32,co_trained:8-4-2")
    plain = {bits: dense(f"dynamic_wi{bits}_afp32") for bits in (8, 4, 2)}
    wanted = {bits: ops.convert_to_numpy(each(X)) for bits, each in plain.items()}
    drawn = []
    for _ in range(40):
        y = ops.convert_to_numpy(layer(X, training=True))
        drawn += [bits for bits, each in wanted.items() if np.array_equal(each, y)]
    assert len(drawn) == 40 and set(drawn) == {8, 4, 2}
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(X)), wanted[4])
    seeds = keras.random.SeedGenerator(0)
    weight = WeightSpec(bits=4, co_trained=(8, 2))
    widths = {float(drawn_width(weight, seeds).qmax) for _ in range(20)}
    assert widths == {127.0, 1.0}


def test_gradients_of_a_drawn_width():
    found = gradients(dense("dynamic_wi4_afp32,co_trained:8-4-2"), X)
    assert np.isfinite(found["kernel"]).all() and found["kernel"].any()
