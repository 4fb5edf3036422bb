"""What hears where speech ends: the endpointer and the end joints of a file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .decoder import Decoder
from .encoders import Encoders
from .model_file import ModelFile, ModelFileError
from .search.search import Search
from .signature import Signature, State

SPEECH = "speech"  # the class of a frame that is no silence


class Endpointer:
    """Says of every frame whether it is speech, or which silence; bound to an interpreter.

    Attributes:
      depth: encoders up to the one whose frames it hears.
      classes: names of the classes.
      frame_seconds: duration of a frame.
    """

    def __init__(self, interpreter: Any, end: Mapping[str, Any], depth: int, frame_seconds: float):
        """Binds the signature of an entry of the metadata."""
        self.depth, self.classes, self.frame_seconds = depth, end["classes"], frame_seconds
        self._signature = Signature(interpreter, end["signature"])
        self._encoded = self._signature.inputs["encoded"]
        self._logits = self._signature.outputs["logits"]

    def check(self, frames: int, dim: int) -> None:
        """Raises `ModelFileError` if it does not hear so many frames of that width."""
        _check_shape("endpointer encoded", self._encoded, (1, frames, dim))
        _check_shape("endpointer logits", self._logits, (1, frames, len(self.classes)))

    @property
    def state_bytes(self) -> int:
        """Bytes of the states of one stream."""
        return self._signature.state_bytes

    def hear(self, encoded: np.ndarray, state: State) -> list[str]:
        """The class of each frame of float32 [frames, dim]; advances `state`."""
        self._encoded[0] = encoded
        self._signature.step(state)
        return [self.classes[k] for k in self._logits[0].argmax(axis=-1)]


class EndJoint:
    """A joint network with a symbol for the end, after all labels; bound to an interpreter.

    Attributes:
      kind: what ends with its symbol: "utterance" or "segment".
      reads: the pass whose frames and predictions it gets.
    """

    def __init__(self, interpreter: Any, end: Mapping[str, Any]):
        """Binds the signature of an entry of the metadata."""
        self.kind, self.reads = end["kind"], end["reads"]
        self._signature = Signature(interpreter, end["signature"])
        self._encoded = self._signature.inputs["encoded"]
        self._predicted = self._signature.inputs["predicted"]
        self._logits = self._signature.outputs["logits"]

    def check(self, dim: int, predicted: tuple[int, ...], labels: int) -> None:
        """Raises `ModelFileError` if it does not fit the pass that it reads."""
        _check_shape(f"{self.kind} joint encoded", self._encoded, (1, dim))
        _check_shape(f"{self.kind} joint predicted", self._predicted, predicted)
        _check_shape(f"{self.kind} joint logits", self._logits, (1, labels + 1))

    def probability(self, encoded: np.ndarray, predicted: np.ndarray) -> float:
        """Of the end in a frame float32 [dim], after the labels of a prediction [1, dim]."""
        self._encoded[0] = encoded
        self._predicted[...] = predicted
        self._signature.invoke()
        powers = np.exp(self._logits[0] - self._logits[0].max())
        return float(powers[-1] / powers.sum())


def _check_shape(what: str, tensor: np.ndarray, wanted: tuple[int, ...]) -> None:
    if tensor.shape != wanted:
        raise ModelFileError(
            f"{what} has the shape {list(tensor.shape)}, expected {list(wanted)} from the rest of "
            "the file"
        )


class EndListener:
    """An end joint on one stream.

    Attributes:
      frames: in which the end was heard, of the pass that it reads.
    """

    def __init__(self, joint: EndJoint, threshold: float):
        """Starts with a stream; an end is heard from a probability of `threshold` on."""
        self.joint, self.threshold = joint, threshold
        self.frames: list[int] = []

    def hear(self, encoded: np.ndarray, search: Search) -> None:
        """Hears a frame that was searched just now."""
        if self.joint.probability(encoded, search.predicted) >= self.threshold:
            self.frames.append(search.frame - 1)


class SegmentListener(EndListener):
    """A segment has labels: after an end, no further one is heard before the next label."""

    def __init__(self, joint: EndJoint, threshold: float):
        """Starts with a stream."""
        super().__init__(joint, threshold)
        self._labels = 0  # before the last end

    def hear(self, encoded: np.ndarray, search: Search) -> None:
        """Hears a frame that was searched just now."""
        if len(search.tokens) > self._labels:
            ends = len(self.frames)
            super().hear(encoded, search)
            if len(self.frames) > ends:
                self._labels = len(search.tokens)


class FrameTrack:
    """An endpointer on one stream.

    Attributes:
      last: class of the last frame; None before the first.
    """

    def __init__(self, endpointer: Endpointer):
        """Starts with a stream."""
        self.endpointer, self.depth = endpointer, endpointer.depth
        self.last: str | None = None
        self._silent = 0  # frames since the last speech
        self._state = State()

    @property
    def silence_seconds(self) -> float:
        """How long the silence at the end is."""
        return self._silent * self.endpointer.frame_seconds

    def take(self, encoded: np.ndarray) -> None:
        """Hears a chunk's frames float32 [frames, dim]."""
        for name in self.endpointer.hear(encoded, self._state):
            self.last = name
            self._silent = 0 if name == SPEECH else self._silent + 1


def bind_endpointers(
    interpreter: Any, file: ModelFile, names: Sequence[str], encoders: Encoders
) -> list[Endpointer]:
    """The endpointers of a file whose chain of encoders has these names.

    Raises:
      ModelFileError: one does not fit the rest of the file.
    """
    made = []
    for end in file.ends:
        if end["kind"] == "endpointer":
            if end["encoder"] not in names:
                raise ModelFileError(
                    f"endpointer {end['name']!r} hears {end['encoder']!r}; expected one of {names}"
                )
            depth = names.index(end["encoder"]) + 1
            frames, dim = encoders.frames[depth - 1], encoders.dims[depth - 1]
            seconds = file.metadata["chunk_samples"] / file.metadata["sample_rate"]
            made.append(Endpointer(interpreter, end, depth, seconds / frames))
            made[-1].check(frames, dim)
    return made


def bind_end_joints(
    interpreter: Any, file: ModelFile, decoders: Sequence[Decoder], encoders: Encoders
) -> list[EndJoint]:
    """The end joints of a file; the decoders are its passes'.

    Raises:
      ModelFileError: one does not fit the rest of the file.
    """
    passes = {one["name"]: (one, d) for one, d in zip(file.passes, decoders, strict=True)}
    made = []
    for end in file.ends:
        if end["kind"] in LISTENERS:
            later = 1 if end["kind"] == "segment" else 0  # passes that it must leave
            readable = list(passes)[: len(passes) - later]
            if end["reads"] not in readable:
                raise ModelFileError(
                    f"end {end['name']!r} reads {end['reads']!r}; expected one of {readable}"
                )
            one, decoder = passes[end["reads"]]
            made.append(EndJoint(interpreter, end))
            dim = encoders.dims[len(one["encoders"]) - 1]
            made[-1].check(dim, decoder.predicted_shape, len(file.pieces))
    return made


LISTENERS: dict[str, type[EndListener]] = {"utterance": EndListener, "segment": SegmentListener}


class StreamEnds:
    """All that one stream hears of ends.

    Attributes:
      tracks: of the endpointers.
      listeners: of the end joints that are listened to, by their kind.
    """

    def __init__(
        self,
        endpointers: Sequence[Endpointer],
        joints: Sequence[EndJoint],
        thresholds: Mapping[str, float | None],
    ):
        """Starts with a stream.

        Args:
          endpointers: of the file.
          joints: of the file.
          thresholds: probability by kind of joint; None: those are not listened to.
        """
        self.tracks = [FrameTrack(endpointer) for endpointer in endpointers]
        self.listeners: dict[str, list[EndListener]] = {
            kind: [LISTENERS[kind](j, threshold) for j in joints if j.kind == kind]
            for kind, threshold in thresholds.items()
            if threshold is not None
        }

    def reading(self, name: str) -> list[EndListener]:
        """The listeners of a pass."""
        return [x for all_ in self.listeners.values() for x in all_ if x.joint.reads == name]

    def heard(self, kind: str) -> bool:
        """Whether any end of that kind was heard."""
        return any(listener.frames for listener in self.listeners.get(kind, ()))
