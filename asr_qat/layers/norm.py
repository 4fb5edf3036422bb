"""Root mean square normalisation (1910.07467)."""

from keras import ops

EPSILON = 1e-5


def rms_normalize(x):
    """``x / sqrt(mean(x^2) + epsilon)`` over the last axis; no weights.

    For use in front of a product, whose weights are its gain; elsewhere there is
    `keras.layers.RMSNormalization`.
    """
    return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + EPSILON)
