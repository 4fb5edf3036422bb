"""Frames side by side: the subsampling, and the time reduction, of recurrent encoders."""

import keras
from keras import ops

from asr_qat.layers.base import StreamingLayer


@keras.saving.register_keras_serializable("asr_qat")
class FrameStacking(StreamingLayer):
    """Joins the last ``stack`` frames side by side, at every ``stride``-th frame.

    Output t ends with frame ``stride * (t + 1) - 1``; before the first frame are zeros.

    Args:
        stack: frames joined.
        stride: frames from one output to the next; a last part of one is dropped.

    Raises:
        ValueError: if either is not positive.
    """

    def __init__(self, stack, stride, **kwargs):
        super().__init__(**kwargs)
        if stack < 1 or stride < 1:
            raise ValueError(f"stack {stack}, stride {stride}; expected both to be at least 1")
        self.stack, self.stride = stack, stride
        self.factor = stride
        self.history = -(-max(stack - stride, 0) // stride)  # strides that are looked back on

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        self.dim = input_shape[-1]

    def initial_state(self, batch):
        """``frames``: the strides looked back on, ``[batch, history, stride * dim]``, if any."""
        if not self.history:
            return {}
        return {"frames": ops.zeros((batch, self.history, self.stride * self.dim))}

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time // stride, stack * dim]``."""
        batch, time, _ = ops.shape(x)
        count = time // self.stride
        # The batch by its size: a loop converts only where that is known.
        strides = ops.reshape(x[:, : count * self.stride], (batch, count, self.stride * self.dim))
        strides = ops.concatenate([*state.values(), strides], axis=1)
        joined = ops.concatenate(
            [strides[:, n : n + count] for n in range(self.history + 1)], axis=-1
        )
        after = {name: strides[:, count:] for name in state}
        return joined[:, :, joined.shape[-1] - self.stack * self.dim :], after

    def compute_output_shape(self, input_shape):
        """``[batch, time, dim]`` -> ``[batch, time // stride, stack * dim]``."""
        batch, time, dim = input_shape
        return (batch, time and time // self.stride, self.stack * dim)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "stack": self.stack, "stride": self.stride}
