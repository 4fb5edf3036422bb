"""Front end and encoders of a file, each on the output of the one before."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .model_file import ModelFileError
from .signature import Signature, State


class Encoders:
    """The chain from samples to frames, bound to an interpreter.

    Attributes:
      dims: width of the frames of each encoder.
      frames: that each encoder makes of a chunk.
      last_input: shape [frames, dim] of what the last encoder makes them of.
    """

    def __init__(self, interpreter: Any, names: Sequence[str], chunk_samples: int):
        """Binds the front end and the named signatures.

        Raises:
          ModelFileError: there is no such signature, one lacks a tensor, or shapes do not fit.
        """
        self._frontend = Signature(interpreter, "frontend")
        self._encoders = [Signature(interpreter, name) for name in names]
        self._samples = self._frontend.inputs["samples"]
        arguments = ["features", *["encoded"] * (len(names) - 1)]
        self._heard = [e.inputs[a] for e, a in zip(self._encoders, arguments, strict=True)]
        self._encoded = [e.outputs["encoded"] for e in self._encoders]
        self._sources = [self._frontend.outputs["features"], *self._encoded[:-1]]
        pairs = [("frontend samples", self._samples.shape, (1, chunk_samples))]
        for name, target, source in zip(names, self._heard, self._sources, strict=True):
            pairs.append((f"{name} input", target.shape, source.shape))
        for what, got, wanted in pairs:
            if got != wanted:
                raise ModelFileError(
                    f"{what} has the shape {list(got)}, expected {list(wanted)} from the rest of "
                    "the file"
                )
        self.dims = [encoded.shape[2] for encoded in self._encoded]
        self.frames = [encoded.shape[1] for encoded in self._encoded]
        self.last_input = self._heard[-1].shape[1:]

    @property
    def state_bytes(self) -> int:
        """Bytes of the states of one stream."""
        return sum(part.state_bytes for part in (self._frontend, *self._encoders))

    def states(self) -> list[State]:
        """The states of a new stream."""
        return [State() for _ in (self._frontend, *self._encoders)]

    def step(self, chunk: np.ndarray, states: Sequence[State]) -> list[np.ndarray]:
        """Runs all but the last encoder on one chunk.

        Args:
          chunk: float32 [chunk_samples].
          states: of the stream, advanced.

        Returns:
          Features, and the output of each of these encoders: float32 [frames, dim], valid until
          the next call.
        """
        self._samples[0] = chunk
        self._frontend.step(states[0])
        parts = zip(self._encoders[:-1], self._heard, self._sources, states[1:], strict=False)
        for encoder, target, source, state in parts:
            target[...] = source
            encoder.step(state)
        return [source[0] for source in self._sources]

    def step_last(self, frames: np.ndarray, state: State) -> np.ndarray:
        """Runs the last encoder.

        Args:
          frames: float32 of the shape `last_input`.
          state: of the last encoder, advanced.

        Returns:
          float32 [frames, dim], valid until the next call.
        """
        self._heard[-1][0] = frames
        self._encoders[-1].step(state)
        return self._encoded[-1][0]
