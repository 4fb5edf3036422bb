"""Helpers that tests share: gradients on any backend, compilation, and the layer contract."""

import keras
import numpy as np
from keras import ops


def gradient_of(function, x) -> np.ndarray:
    """d function / dx of a scalar function of one array, on the active Keras backend."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(ops.convert_to_tensor(x)))
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x).numpy()


def compiled(function):
    """The function compiled by XLA on the active backend."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, jit_compile=True)
