import keras
import numpy as np
import pytest
from keras import ops

from asr_qat.backend import compiled
from asr_qat.layers.dense import Dense, resolve
from asr_qat.quantization.quantizers import IntegerProduct
from asr_qat.quantization.spec import RECIPES, PolicyError, policy
from asr_qat.testing import needs_exact_xla, weight_gradients


def frames(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 16), (2, 5, 16), (2, 3, 4, 16)])
def test_float_is_an_ordinary_dense_layer(shape):
    layer = Dense(6, activation="swish")
    y = ops.convert_to_numpy(layer(frames(*shape)))
    kernel, bias = layer.get_weights()
    expected = frames(*shape) @ kernel + bias
    np.testing.assert_allclose(y, expected / (1 + np.exp(-expected)), atol=1e-5)
    assert y.shape == layer.compute_output_shape(shape)


@pytest.mark.parametrize("precision", sorted(RECIPES))
def test_every_recipe_computes_compiles_and_has_gradients(precision):
    needs_exact_xla(precision)
    layer = Dense(6, precision=precision)
    x = frames(4, 5, 16)
    y = ops.convert_to_numpy(layer(x))
    again = ops.convert_to_numpy(compiled(lambda x: layer(x))(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(again, y, rtol=1e-5, atol=1e-5)
    assert layer.recipe_name == precision and layer.spec == RECIPES[precision]
    for path, gradient in weight_gradients(layer, x, frames(4, 5, 6)).items():
        assert np.isfinite(gradient).all() and np.any(gradient != 0), path


def test_a_policy_is_asked_for_the_path():
    rules = [("encoder/", "dynamic_wi4_afp32"), ("encoder/last", "dynamic_wi8_afp32")]
    for precision in (policy(rules), rules, [list(rule) for rule in rules]):
        assert resolve(precision, "model/encoder/first") == "dynamic_wi4_afp32"
        assert resolve(precision, "model/encoder/last") == "dynamic_wi8_afp32"
        assert resolve(precision, "model/joint") == "float32"
    assert resolve(None, "anything") == "float32"


def test_layers_in_a_model_get_their_recipes_by_their_paths():
    chosen = policy([("small", "dynamic_wi4_afp32"), ("outer/small_2", "wi4_ai4")])

    class Outer(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.parts = [Dense(4, precision=chosen, name=n) for n in ("small", "small_2", "wide")]

        def build(self, shape):
            for part in self.parts:
                part.build(shape)

    outer = Outer(name="outer")
    outer.build((None, 8))
    assert [p.path for p in outer.parts] == ["outer/small", "outer/small_2", "outer/wide"]
    assert [p.recipe_name for p in outer.parts] == ["dynamic_wi4_afp32", "wi4_ai4", "float32"]


def test_rows_are_quantized_frame_by_frame():
    """A loud frame must not coarsen the frames beside it."""
    layer = Dense(6, precision="dynamic_wi4_afp32")
    x = frames(1, 4, 16)
    quiet = ops.convert_to_numpy(layer(x))
    x[:, 2] *= 1e4
    loud = ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(loud[:, [0, 1, 3]], quiet[:, [0, 1, 3]])
    assert isinstance(layer.product, IntegerProduct)


@pytest.mark.parametrize("precision", sorted(RECIPES))
def test_a_stand_in_may_compute_the_product_without_the_kernel(precision):
    """As an exporter traces it: nothing but the product reads the kernel."""
    layer = Dense(6, activation="relu", precision=precision)
    x = frames(4, 5, 16)
    layer(x)
    layer.bias.assign(np.arange(6, dtype=np.float32) - 3)
    seen = []

    def stand_in(x, kernel, bias, training):
        seen.append((x.shape, kernel is layer.kernel, bias is layer.bias, training))
        return bias + ops.zeros((4, 5, 6))

    layer.product = stand_in
    y = ops.convert_to_numpy(layer(x, training=True))
    assert seen == [((4, 5, 16), True, True, True)]
    np.testing.assert_array_equal(y[1, 2], [0, 0, 0, 0, 1, 2])


@pytest.mark.parametrize("precision", sorted(RECIPES))
def test_without_a_bias_the_product_gets_none(precision):
    layer = Dense(6, use_bias=False, precision=precision)
    y = ops.convert_to_numpy(layer(frames(2, 3, 16)))
    exact = frames(2, 3, 16) @ ops.convert_to_numpy(layer.kernel)
    assert y.shape == (2, 3, 6)
    if layer.spec.weight is None or layer.spec.weight.bits > 2:
        assert np.corrcoef(y.ravel(), exact.ravel())[0, 1] > 0.95


def test_configuration_round_trips():
    for precision in ("wi4_ai4", policy([("dense", "dynamic_wi8_afp32")]), None):
        layer = Dense(3, activation="swish", use_bias=False, precision=precision, name="a_dense")
        layer.build((None, 8))
        copy = Dense.from_config(layer.get_config())
        copy.build((None, 8))
        assert copy.recipe_name == layer.recipe_name and copy.get_config() == layer.get_config()
        assert len(copy.weights) == 1


def test_an_unknown_recipe_is_an_error():
    with pytest.raises(PolicyError, match="unknown recipe 'int4'"):
        Dense(3, precision="int4").build((None, 8))
