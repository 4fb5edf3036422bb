"""Funnel pooling (2204.06164): attention whose queries are pooled, so that its output is shorter.

The queries are averages of ``stride`` frames; keys and values stay at the full rate, so nothing
that a later layer could want is averaged away before it was attended to.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from asr_qat.layers.attention import AttentionWindow, CausalAttention, rotate, split_heads
from asr_qat.layers.dense import Dense
from asr_qat.layers.norm import rms_normalize


class FunnelWindow(NamedTuple):
    """A `layers.attention.Window` with rotations of its own for the pooled queries."""

    cosines: Any
    sines: Any
    query_cosines: Any
    query_sines: Any
    mask: Any


@keras.saving.register_keras_serializable("asr_qat")
class FunnelAttentionWindow(AttentionWindow):
    """The window of `FunnelAttention`: a pooled query stands at the last of its frames.

    Args:
        left_context: frames, at the full rate, before that one that are seen.
        head_size: of the attention layer; even.
        stride: frames that become one.
    """

    def __init__(self, left_context, head_size, stride=2, **kwargs):
        super().__init__(left_context, head_size, **kwargs)
        self.stride = stride

    def step(self, x, state, training=False):
        """A chunk ``[batch, time, dim]``, time a multiple of the stride -> its `FunnelWindow`."""
        time, position = ops.shape(x)[1], state["position"]
        frames = ops.arange(0, time, dtype="float32")
        last = ops.arange(0, time // self.stride, dtype="float32") * float(self.stride)
        last = last + float(self.stride - 1)
        cosines, sines = self.rotations(position + frames)
        query_cosines, query_sines = self.rotations(position + last)
        mask = self.mask(last, time, position)
        window = FunnelWindow(cosines, sines, query_cosines, query_sines, mask)
        return window, {"position": position + ops.cast(time, "float32")}

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "stride": self.stride}


def pooled(x, stride):
    """Averages of ``stride`` frames, ``[batch, time, dim]`` -> ``[batch, time // stride, dim]``."""
    batch, time, dim = ops.shape(x)
    count = time // stride
    whole = x[:, : count * stride]  # frames that do not fill a last average are dropped
    return ops.mean(ops.reshape(whole, (batch, count, stride, dim)), axis=2)


@keras.saving.register_keras_serializable("asr_qat")
class FunnelAttention(CausalAttention):
    """Norm, self-attention with pooled queries, dropout, added to the pooled input.

    Args:
        dim: width of input and output.
        heads: attention heads; ``dim / heads`` must be even.
        left_context: frames at the full rate that are seen before a pooled frame's last.
        stride: frames that become one, at least 2.
        dropout: rate on the attention weights and on the result.
        precision: a recipe's name or a `Policy`.
    """

    inward_parts = (2, "key_value")

    def __init__(
        self, dim, heads, left_context, stride=2, dropout=0.0, precision="float32", **kwargs
    ):
        if stride < 2:
            raise ValueError(f"stride: received {stride}, expected at least 2")
        super().__init__(dim, heads, left_context, dropout, precision, **kwargs)
        self.stride = stride
        self.asking = Dense(dim, use_bias=False, precision=precision, name="query")

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        super().build(input_shape)
        self.asking.build(input_shape)

    def step(self, x, state, window: FunnelWindow, training=False):
        """``[batch, time, dim]`` -> ``[batch, time / stride, dim]``, next state."""
        time = ops.shape(x)[1]
        short = pooled(x, self.stride)
        query = split_heads(self.asking(rms_normalize(short)), self.heads)
        query = rotate(query, window.query_cosines, window.query_sines)
        key, value = ops.split(
            split_heads(self.inward(rms_normalize(x)), 2 * self.heads), 2, axis=1
        )
        keys = ops.concatenate([state["keys"], rotate(key, window.cosines, window.sines)], axis=2)
        values = ops.concatenate([state["values"], value], axis=2)
        y = self.attend(query, keys, values, window.mask, training)
        return short + y, {"keys": keys[:, :, time:], "values": values[:, :, time:]}

    def compute_output_shape(self, input_shape):
        """``[batch, time, dim]`` -> ``[batch, time / stride, dim]``."""
        return (input_shape[0], input_shape[1] and input_shape[1] // self.stride, self.dim)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "stride": self.stride}
