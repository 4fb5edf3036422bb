"""What recurrent cells share: the product of their gates, its norm, a projection.

A cell computes a frame in three parts, so that a sequence's loop holds only what must be in it:
`prepare` and `finish` take all frames at once, `advance` takes one.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from asr_qat.layers.base import State
from asr_qat.layers.dense import Dense


@keras.saving.register_keras_serializable("asr_qat")
class GateNorm(keras.layers.Layer):
    """Layer normalization of every gate's inputs on their own, with scale and bias (1607.06450).

    Args:
        groups: gates, side by side on the last axis.
        epsilon: added to the variance.
    """

    def __init__(self, groups, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.groups, self.epsilon = groups, epsilon

    def build(self, input_shape):
        """Makes scale and bias ``[groups * units]``."""
        shape = (input_shape[-1],)
        self.scale = self.add_weight(shape=shape, initializer="ones", name="scale")
        # A frame of zeros must not stay zero from layer to layer: the norms have a slope of
        # 1 / sqrt(epsilon) there, and the gradient would grow by it in every layer.
        self.bias = self.add_weight(
            shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.3), name="bias"
        )

    def call(self, x):
        """``[..., groups * units]`` -> the same."""
        shape = ops.shape(x)
        gates = ops.reshape(x, (*shape[:-1], self.groups, shape[-1] // self.groups))
        gates = gates - ops.mean(gates, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(gates), axis=-1, keepdims=True)
        return (
            ops.reshape(gates * ops.rsqrt(variance + self.epsilon), shape) * self.scale + self.bias
        )

    def compute_output_shape(self, input_shape):
        """The input's."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}


def multiply(layer: keras.layers.Layer, rows: Any) -> Any:
    """A product of a cell, ``[batch, in]`` -> ``[batch, out]``; in training it learns nothing."""
    return layer(rows, training=False)


class GatedCell(keras.layers.Layer):
    """What the recurrent cells share: their products, and one step of all three parts.

    Args:
        units: width of the cell.
        projection: width of the output, a product without bias (1402.1128); 0: none.
        layer_norm: whether the gates' inputs are normalised.
        precision: a recipe's name or a `Policy`, for both products.

    Attributes:
        groups: gates of `units` each, of a subclass.
        width: size of the output.
        state_sizes: width of each state, by its name.
        emitted_sizes: width of what `advance` has to say of a frame, by its name.
        products_in_loop: the dense layers that `advance` multiplies with.
    """

    groups: int
    state_sizes: dict[str, int]
    emitted_sizes: dict[str, int]
    products_in_loop: tuple[Dense, ...] = ()

    def __init__(self, units, projection=0, layer_norm=False, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.units, self.projection, self.layer_norm = units, projection, layer_norm
        self.width = projection or units
        self.gates = Dense(
            self.groups * units, use_bias=not layer_norm, precision=precision, name="gates"
        )
        self.norm = GateNorm(self.groups, name="norm") if layer_norm else keras.layers.Identity()
        self.project = (
            Dense(projection, use_bias=False, precision=precision, name="project")
            if projection
            else keras.layers.Identity()
        )

    def build_products(self, inputs: int) -> None:
        """Builds both products and the norm; ``inputs`` is the size of a row of the gates'."""
        self.gates.build((None, inputs))
        self.norm.build((None, self.groups * self.units))
        self.project.build((None, self.units))

    def initial_state(self, batch: int) -> State:
        """Zeros ``[batch, size]`` by name."""
        return {name: ops.zeros((batch, size)) for name, size in self.state_sizes.items()}

    def prepare(self, x: Any, training: bool = False) -> Any:
        """What does not depend on the state: ``[batch, time, dim]`` -> ``[batch, time, ...]``."""
        raise NotImplementedError

    def advance(
        self, prepared: Any, state: State, product: Callable[[Any, Any], Any] = multiply
    ) -> tuple[dict[str, Any], State]:
        """One frame.

        Args:
            prepared: of `prepare`, ``[batch, ...]``.
            state: before the frame.
            product: applies one of `products_in_loop` to rows.

        Returns:
            What it emits, by name; the next state.
        """
        raise NotImplementedError

    def seen_in_loop(self, prepared: Any, emitted: dict[str, Any]) -> list[Any]:
        """The rows ``[batch, time, in]`` that each of `products_in_loop` got, in order."""
        return []

    def finish(self, emitted: dict[str, Any], training: bool = False) -> Any:
        """What all frames emitted -> outputs ``[batch, time, width]``."""
        raise NotImplementedError

    def step(self, x: Any, state: State) -> tuple[Any, State]:
        """One frame ``[batch, dim]``, state -> output ``[batch, width]``, next state."""
        emitted, state = self.advance(self.prepare(x), state)
        return self.finish(emitted), state

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "projection": self.projection,
            "layer_norm": self.layer_norm,
            "precision": self.gates.get_config()["precision"],
        }
