"""Multi-head self-attention over a bounded past, with rotary positions."""

import math

import keras
import numpy as np
from keras import ops

from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.dense import Dense

MASKED = -1e9  # added to the score of a key that must not be seen


def rotary_tables(count, size: int):
    """Cosines and sines of rotary positions 0 .. count-1 (2104.09864), ``[count, size // 2]``."""
    frequencies = (10000.0 ** (-np.arange(0, size, 2) / size)).astype(np.float32)
    angles = ops.arange(0, count, dtype="float32")[:, None] * frequencies[None, :]
    return ops.cos(angles), ops.sin(angles)


def rotate(x, cosines, sines):
    """Turns pairs (i, i + size/2) of ``[batch, heads, n, size]`` by their position's angles."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return ops.concatenate(
        [first * cosines - second * sines, second * cosines + first * sines], axis=-1
    )


def band_mask(queries, left_context: int):
    """Query i sees the keys i .. i + left_context of a window that starts left_context back.

    Returns:
        float32 ``[queries, left_context + queries]``: 0 where a key is seen, else `MASKED`.
    """
    keys = ops.arange(0, left_context + queries, dtype="int32")[None, :]
    distance = keys - ops.arange(0, queries, dtype="int32")[:, None]
    seen = ops.logical_and(distance >= 0, distance <= left_context)
    return ops.where(seen, 0.0, MASKED)


@keras.saving.register_keras_serializable("asr_qat")
class CausalAttention(StreamingLayer):
    """Self-attention in which a frame sees itself and ``left_context`` frames before it.

    Positions enter by rotating queries and keys, so only their distance counts, and the cached
    keys can stay unrotated: a chunk's window always starts at position 0.

    Args:
        dim: width of input and output.
        heads: attention heads; ``dim / heads`` must be even.
        left_context: frames before the present one that are seen, at least 1.
        dropout: rate on the attention weights.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(self, dim, heads, left_context, dropout=0.0, precision="float32", **kwargs):
        super().__init__(**kwargs)
        if dim % (2 * heads):
            raise ValueError(f"dim / heads must be even; received dim={dim}, heads={heads}")
        if left_context < 1:
            raise ValueError(f"left_context: received {left_context}, expected at least 1")
        self.dim, self.heads, self.left_context = dim, heads, left_context
        self.rate, self.precision = dropout, precision
        self.inward = Dense(3 * dim, use_bias=False, precision=precision, name="query_key_value")
        self.outward = Dense(dim, use_bias=False, precision=precision, name="output")
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        self.inward.build(input_shape)
        self.outward.build(input_shape)

    def initial_state(self, batch):
        """Keys and values of the past ``[batch, left_context, dim]``, and which of them exist."""
        past = (batch, self.left_context, self.dim)
        return {
            "keys": ops.zeros(past),
            "values": ops.zeros(past),
            "valid": ops.zeros((batch, self.left_context)),
        }

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``."""
        query, key, value = ops.split(self.inward(x), 3, axis=-1)
        keys = ops.concatenate([state["keys"], key], axis=1)
        values = ops.concatenate([state["values"], value], axis=1)
        valid = ops.concatenate([state["valid"], ops.ones_like(x[:, :, 0])], axis=1)
        past = self.left_context
        y = self.outward(self._attend(query, keys, values, valid, training))
        return y, {"keys": keys[:, -past:], "values": values[:, -past:], "valid": valid[:, -past:]}

    def _attend(self, query, keys, values, valid, training):
        time = ops.shape(query)[1]
        size = self.dim // self.heads
        cosines, sines = rotary_tables(self.left_context + time, size)
        query = rotate(self._split(query), cosines[self.left_context :], sines[self.left_context :])
        keys = rotate(self._split(keys), cosines, sines)
        scores = ops.matmul(query, ops.transpose(keys, (0, 1, 3, 2))) * (1.0 / math.sqrt(size))
        absent = (1.0 - valid) * MASKED
        scores = scores + band_mask(time, self.left_context) + absent[:, None, None, :]
        weights = self.dropout(ops.softmax(scores, axis=-1), training=training)
        context = ops.transpose(ops.matmul(weights, self._split(values)), (0, 2, 1, 3))
        return ops.reshape(context, (-1, time, self.dim))

    def _split(self, x):
        """``[batch, time, dim]`` -> ``[batch, heads, time, dim / heads]``."""
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.heads, self.dim // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "heads": self.heads,
            "left_context": self.left_context,
            "dropout": self.rate,
            "precision": self.inward.get_config()["precision"],
        }
