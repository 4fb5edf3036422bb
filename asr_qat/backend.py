"""What Keras leaves to its backends, and its global settings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled by XLA on the active Keras backend; compiled anew for new shapes."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def compiled_for(model: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """As `compiled`, for a function that reads the model's weights: they may change between calls.

    Args:
        model: a built Keras model.
        function: of arrays, which changes no weight.
    """
    if keras.backend.backend() != "jax":
        return compiled(function)
    # JAX would compile the weights in as constants.
    variables = [*model.trainable_variables, *model.non_trainable_variables]

    def with_weights(values, *args):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*args)

    inner = compiled(with_weights)
    return lambda *args: inner([v.value for v in variables], *args)


def sees_a_gpu() -> bool:
    """Whether the active Keras backend computes on a GPU."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu"
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


@contextmanager
def in_float32() -> Iterator[str]:
    """Layers made here compute in float32, whatever Keras' dtype policy; yields that one's type.

    A policy such as ``mixed_bfloat16`` casts weights before a layer sees them; what is quantized
    from those would not be what a file holds.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield policy.compute_dtype
    finally:
        keras.config.set_dtype_policy(policy)
