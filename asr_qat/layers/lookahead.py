"""Self-attention with a bounded right context, for the second pass of cascaded encoders.

In a stream a layer that sees ``right_context`` frames ahead answers so many frames late. Here the
lateness is explicit: `LookaheadAttention.step` gives, for a chunk, as many frames as it got, those
of ``right_context`` frames before. Cascaded encoders: 2010.14606.
"""

import keras
from keras import ops

from asr_qat.layers.attention import CausalAttention


@keras.saving.register_keras_serializable("asr_qat")
class LookaheadAttention(CausalAttention):
    """Norm, self-attention, dropout, added to the input, all ``right_context`` frames late.

    Its window must look back ``left_context + right_context`` frames from the newest one.

    Args:
        dim: width of input and output.
        heads: attention heads; ``dim / heads`` must be even.
        left_context: frames before a frame that it sees.
        right_context: frames after it that it sees, at least 1.
        dropout: rate on the attention weights and on the result.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(
        self,
        dim,
        heads,
        left_context,
        right_context,
        dropout=0.0,
        precision="float32",
        **kwargs,
    ):
        if right_context < 1:
            raise ValueError(f"right_context: received {right_context}, expected at least 1")
        super().__init__(dim, heads, left_context, dropout, precision, **kwargs)
        self.right_context = right_context

    def initial_state(self, batch):
        """Frames and their rotated queries that wait; rotated keys, and values, of the past."""
        size = self.dim // self.heads
        waiting = (batch, self.heads, self.right_context, size)
        past = (batch, self.heads, self.left_context + self.right_context, size)
        return {
            "frames": ops.zeros((batch, self.right_context, self.dim)),
            "queries": ops.zeros(waiting),
            "keys": ops.zeros(past),
            "values": ops.zeros(past),
        }

    def step(self, x, state, window, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``, next state."""
        time = ops.shape(x)[1]
        query, key, value = self.projected(x, window)
        frames = ops.concatenate([state["frames"], x], axis=1)
        queries = ops.concatenate([state["queries"], query], axis=2)
        keys = ops.concatenate([state["keys"], key], axis=2)
        values = ops.concatenate([state["values"], value], axis=2)
        y = self.attend(queries[:, :, :time], keys, values, window.mask, training)
        return frames[:, :time] + y, {
            "frames": frames[:, time:],
            "queries": queries[:, :, time:],
            "keys": keys[:, :, time:],
            "values": values[:, :, time:],
        }

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "right_context": self.right_context}
