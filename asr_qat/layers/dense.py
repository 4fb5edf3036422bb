"""A dense layer whose product runs at any precision."""

from typing import Any

import keras
from keras import ops

from asr_qat.quantization.quantizers import make_product
from asr_qat.quantization.spec import Policy, recipe


def resolve(precision: "str | Policy | list | None", path: str) -> str:
    """The recipe's name for the layer at ``path``.

    Args:
        precision: a recipe's name, or a `Policy` (or its rules) that is asked for the path.
        path: the layer's path in its model.
    """
    if isinstance(precision, str):
        return precision
    rules = precision.rules if isinstance(precision, Policy) else precision or ()
    return Policy(tuple(tuple(rule) for rule in rules)).name_for(path)


@keras.saving.register_keras_serializable("asr_qat")
class Dense(keras.layers.Layer):
    """``activation(x @ kernel + bias)`` over the last axis, the product at a chosen precision.

    Args:
        units: size of the output's last axis.
        activation: anything `keras.activations.get` takes.
        use_bias: whether a float32 bias is added.
        kernel_initializer: anything `keras.initializers.get` takes.
        bias_initializer: anything `keras.initializers.get` takes.
        precision: a recipe's name such as ``"dynamic_wi4_afp32"``, or a `Policy`, asked for this
            layer's path when the layer is built.
    """

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        precision="float32",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.precision = precision

    def build(self, input_shape):
        """Makes kernel ``[in, units]`` and bias ``[units]``; resolves the precision."""
        self.apply_recipe(resolve(self.precision, self.path))
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.units), initializer=self.kernel_initializer, name="kernel"
        )
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.units,), initializer=self.bias_initializer, name="bias"
            )
        self.product.build(self, input_shape[-1], self.units)

    def apply_recipe(self, name):
        """Computes by this recipe from now on; one with weights of its own only before `build`."""
        self.recipe_name, self.spec = name, recipe(name)
        self.product: Any = make_product(self.spec)  # an exporter may put a stand-in here

    def served_kernel(self):
        """The kernel ``[in, units]`` that a file stores, at its precision: after any clipping."""
        return self.product.served_kernel(ops.convert_to_tensor(self.kernel))

    def call(self, x, training=False):
        """``[..., in]`` -> ``[..., units]``."""
        bias = self.bias if self.use_bias else None
        return self.activation(self.product(x, self.kernel, bias, training))

    def compute_output_shape(self, input_shape):
        """``[..., in]`` -> ``[..., units]``."""
        return (*input_shape[:-1], self.units)

    def get_config(self):
        """The constructor's arguments."""
        precision = self.precision
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "precision": precision.to_list() if isinstance(precision, Policy) else precision,
        }
