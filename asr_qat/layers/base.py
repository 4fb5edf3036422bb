"""The contract of a streaming layer: `call` is one `step` over the whole sequence."""

from typing import Any

import keras
from keras import ops

State = dict[str, Any]  # name -> tensor, or name -> State of a sub-layer


class StreamingLayer(keras.layers.Layer):
    """A layer that computes a sequence at once or chunk by chunk, with equal results.

    A subclass implements `initial_state` and `step`. `call` starts from the initial state and
    takes the whole sequence as one chunk, so the two cannot drift apart. No output depends on
    input after it, but for that of a `LookaheadLayer`.
    """

    factor = 1  # frames that become one
    delay = 0  # output frames by which `step` lags behind

    def initial_state(self, batch: int) -> State:
        """The state before the first chunk: zeros."""
        raise NotImplementedError

    def step(self, x: Any, state: State, training: bool = False) -> tuple[Any, State]:
        """One chunk ``[batch, time, dim]`` and the state before it -> output, state after it."""
        raise NotImplementedError

    def call(self, x: Any, training: bool = False) -> Any:
        """The whole sequence, ``[batch, time, dim]``."""
        return self.step(x, self.initial_state(ops.shape(x)[0]), training=training)[0]


class LookaheadLayer(StreamingLayer):
    """A layer that sees ``delay`` frames ahead: its `step` answers that many frames late.

    `call` gives frames in their places, as if ``delay`` frames of zeros followed the sequence: a
    stream is brought to its end by steps over such frames, and its first ``delay`` outputs, which
    belong to no frame, are left out.
    """

    def call(self, x: Any, training: bool = False) -> Any:
        """The whole sequence, ``[batch, time, dim]``."""
        padded = ops.pad(x, ((0, 0), (0, self.delay), (0, 0)))
        return super().call(padded, training=training)[:, self.delay :]


def unbuilt(layer: keras.layers.Layer) -> dict[str, Any]:
    """A part of a layer for that layer's configuration: it is built again within the whole."""
    serialized = keras.saving.serialize_keras_object(layer)
    serialized.pop("build_config", None)
    return serialized
