"""Causal multi-head self-attention over a bounded past, with rotary positions.

An attention module adds its own input to its result, because its variants delay that input
(`layers.lookahead`) or pool it (`layers.funnel`).
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.dense import Dense
from asr_qat.layers.norm import rms_normalize

MASKED = -1e9  # added to the score of a key that must not be seen
PERIOD = 512  # frames after which the rotations repeat; a window must be shorter


class Window(NamedTuple):
    """What all attention layers of a stack need to know about a chunk, computed once.

    Attributes:
        cosines: float32 ``[batch, 1, time, head size]``, of the chunk's positions.
        sines: float32 ``[batch, 1, time, head size]``, negative in the first half.
        mask: float32 ``[batch, 1, time, left_context + time]``: 0 where a key is seen, else
            `MASKED`.
    """

    cosines: Any
    sines: Any
    mask: Any


def rotary_turns(size: int) -> np.ndarray:
    """Radians a frame of each of ``size // 2`` rotations (2104.09864), whole turns in `PERIOD`.

    From one radian a frame to one turn in `PERIOD` frames, in even ratios, each rounded to a
    whole number of turns: so a stream's position can be kept modulo `PERIOD`, exactly.
    """
    turns = np.geomspace(PERIOD / (2 * np.pi), 1.0, size // 2)
    return (np.rint(turns) * (2 * np.pi / PERIOD)).astype(np.float32)


def rotate(x, cosines, sines):
    """Turns pairs (i, i + size/2) of ``[batch, heads, time, size]`` by their position's angles."""
    first, second = ops.split(x, 2, axis=-1)
    swapped = ops.concatenate([second, first], axis=-1)
    return x * cosines + swapped * sines


@keras.saving.register_keras_serializable("asr_qat")
class AttentionWindow(StreamingLayer):
    """The positions of a chunk's frames, and which keys each of them sees.

    Query i sees the keys i .. i + left_context of a window that starts left_context frames back,
    but for those before the start of the stream. Keys are kept rotated by their own position, so
    a chunk rotates its new frames alone; only the distance of two frames counts in their product.

    Args:
        left_context: frames before the present one that are seen, 1 to `PERIOD` / 2.
        head_size: of the attention layers; even.
    """

    def __init__(self, left_context, head_size, **kwargs):
        super().__init__(**kwargs)
        if not 1 <= left_context <= PERIOD // 2:
            raise ValueError(f"left_context: received {left_context}, expected 1 to {PERIOD // 2}")
        self.left_context, self.head_size = left_context, head_size
        self.turns = rotary_turns(head_size)

    def initial_state(self, batch):
        """``position``: frames before the chunk; float32 counts 186 hours of 40 ms frames."""
        return {"position": ops.zeros((batch, 1))}

    def step(self, x, state, training=False):
        """A chunk ``[batch, time, dim]`` (for its length alone) -> its `Window`."""
        time, position = ops.shape(x)[1], state["position"]
        frames = ops.arange(0, time, dtype="float32")
        cosines, sines = self.rotations(position + frames)
        window = Window(cosines, sines, self.mask(frames, time, position))
        return window, {"position": position + ops.cast(time, "float32")}

    def rotations(self, places):
        """Cosines and sines ``[batch, 1, frames, head size]`` of positions ``[batch, frames]``."""
        places = places - PERIOD * ops.floor(places * (1.0 / PERIOD))
        angles = ops.expand_dims(ops.expand_dims(places, -1) * self.turns, 1)
        # The scale of the scores, 1 / sqrt(size), is shared out between queries and keys.
        scale = self.head_size**-0.25
        cosines, sines = ops.cos(angles) * scale, ops.sin(angles) * scale
        return (
            ops.concatenate([cosines, cosines], axis=-1),
            ops.concatenate([-sines, sines], axis=-1),
        )

    def mask(self, queries, time, position):
        """What some of a chunk's frames see, ``[batch, 1, queries, left_context + time]``.

        Args:
            queries: float32 ``[queries]``, their places in the chunk.
            time: frames of the chunk.
            position: float32 ``[batch, 1]``, frames before the chunk.
        """
        queries = ops.expand_dims(queries, 1)
        keys = ops.expand_dims(ops.arange(0, self.left_context + time, dtype="float32"), 0)
        distance = keys - queries
        outside = ops.maximum(-distance, distance - float(self.left_context))
        absent = (float(self.left_context) - position) - keys  # > 0 before the stream's start
        unseen = ops.maximum(ops.expand_dims(outside, 0), ops.expand_dims(absent, 1))
        mask = ops.minimum(ops.maximum(unseen, 0.0), 1.0) * MASKED
        return ops.expand_dims(mask, 1)

    def get_config(self):
        """The constructor's arguments."""
        sizes = {"left_context": self.left_context, "head_size": self.head_size}
        return {**super().get_config(), **sizes}


@keras.saving.register_keras_serializable("asr_qat")
class CausalAttention(keras.layers.Layer):
    """Norm, self-attention, dropout, added to the input; a frame sees itself and its past.

    Args:
        dim: width of input and output.
        heads: attention heads; ``dim / heads`` must be even.
        left_context: frames before the present one that are seen, the window's.
        dropout: rate on the attention weights and on the result.
        precision: a recipe's name or a `Policy`.
    """

    inward_parts = (3, "query_key_value")  # what one product makes of every frame

    def __init__(self, dim, heads, left_context, dropout=0.0, precision="float32", **kwargs):
        super().__init__(**kwargs)
        if dim % (2 * heads):
            raise ValueError(f"dim / heads must be even; received dim={dim}, heads={heads}")
        self.dim, self.heads, self.left_context = dim, heads, left_context
        self.rate, self.precision = dropout, precision
        count, name = self.inward_parts
        self.inward = Dense(count * dim, use_bias=False, precision=precision, name=name)
        self.outward = Dense(dim, use_bias=False, precision=precision, name="output")
        self.inner_dropout = keras.layers.Dropout(dropout)
        self.outer_dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        self.inward.build(input_shape)
        self.outward.build(input_shape)

    def initial_state(self, batch):
        """Rotated keys, and values, of the past: ``[batch, heads, left_context, dim / heads]``."""
        past = (batch, self.heads, self.left_context, self.dim // self.heads)
        return {"keys": ops.zeros(past), "values": ops.zeros(past)}

    def step(self, x, state, window, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``, next state."""
        time = ops.shape(x)[1]
        query, key, value = self.projected(x, window)
        keys = ops.concatenate([state["keys"], key], axis=2)
        values = ops.concatenate([state["values"], value], axis=2)
        y = self.attend(query, keys, values, window.mask, training)
        return x + y, {"keys": keys[:, :, time:], "values": values[:, :, time:]}

    def projected(self, x, window: Window):
        """``[batch, time, dim]`` -> queries, keys, both rotated, and values, by head."""
        joined = split_heads(self.inward(rms_normalize(x)), 3 * self.heads)
        turned = rotate(joined[:, : 2 * self.heads], window.cosines, window.sines)
        query, key = ops.split(turned, 2, axis=1)
        return query, key, joined[:, 2 * self.heads :]

    def attend(self, query, keys, values, mask, training):
        """Queries ``[batch, heads, time, size]`` -> what they see, ``[batch, time, dim]``."""
        scores = ops.matmul(query, ops.transpose(keys, (0, 1, 3, 2))) + mask
        weights = self.inner_dropout(ops.softmax(scores, axis=-1), training=training)
        context = ops.transpose(ops.matmul(weights, values), (0, 2, 1, 3))
        y = self.outward(ops.reshape(context, (-1, ops.shape(context)[1], self.dim)))
        return self.outer_dropout(y, training=training)

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
            "precision": self.outward.get_config()["precision"],
        }


def split_heads(x, heads):
    """``[batch, time, dim]`` -> ``[batch, heads, time, dim / heads]``."""
    batch, time, dim = ops.shape(x)
    return ops.transpose(ops.reshape(x, (batch, time, heads, dim // heads)), (0, 2, 1, 3))
