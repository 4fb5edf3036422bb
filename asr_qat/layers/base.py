"""The contract of a streaming layer: `call` is one `step` over the whole sequence."""

from typing import Any

import keras
from keras import ops

State = dict[str, Any]  # name -> tensor, or name -> State of a sub-layer


class StreamingLayer(keras.layers.Layer):
    """A layer that computes a sequence at once or chunk by chunk, with equal results.

    A subclass implements `initial_state` and `step`. `call` starts from the initial state and
    takes the whole sequence as one chunk, so the two cannot drift apart. No output depends on
    input after it: every layer here is causal.
    """

    def initial_state(self, batch: int) -> State:
        """The state before the first chunk: zeros."""
        raise NotImplementedError

    def step(self, x: Any, state: State, training: bool = False) -> tuple[Any, State]:
        """One chunk ``[batch, time, dim]`` and the state before it -> output, state after it."""
        raise NotImplementedError

    def call(self, x: Any, training: bool = False) -> Any:
        """The whole sequence, ``[batch, time, dim]``."""
        return self.step(x, self.initial_state(ops.shape(x)[0]), training=training)[0]
