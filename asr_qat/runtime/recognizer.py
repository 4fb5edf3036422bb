"""The streaming recogniser: an exported .tflite file in, text out.

recognizer = Recognizer("model.tflite")
recognizer.transcribe(samples)                 # a whole utterance
stream = recognizer.stream()                   # or as it is spoken
for block in microphone: print(stream.accept(block))
print(stream.finish())
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .greedy import GreedySearch, Token
from .interpreter import Interpreter
from .model_file import SIGNATURES, ModelFileError, load_recognizer_file
from .signature import Signature, State

WORD_START = "▁"
_INT16_SCALE = np.float32(1 / 32768)


class AudioError(ValueError):
    """The samples are not mono audio of a kind that the recogniser takes."""


class StreamError(ValueError):
    """A stream was used after its end."""


def as_float32(samples: np.ndarray) -> np.ndarray:
    """Checks mono samples and returns them as float32 in [-1, 1].

    Args:
      samples: float32 [n] in [-1, 1] or int16 [n]; n may be 0.

    Raises:
      AudioError: other dtypes or shapes, or values that are not finite.
    """
    if not isinstance(samples, np.ndarray) or samples.dtype not in (np.float32, np.int16):
        got = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise AudioError(
            f"audio must be a NumPy array of float32 in [-1, 1] or of int16, received {got}"
        )
    if samples.ndim != 1:
        raise AudioError(
            f"audio must have one dimension (mono), received the shape {list(samples.shape)}"
        )
    if samples.dtype == np.int16:
        return samples.astype(np.float32) * _INT16_SCALE
    if not np.isfinite(samples).all():
        where = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise AudioError(f"audio must be finite, sample {where} is {samples[where]}")
    return samples


class Recognizer:
    """A loaded model; makes streams.

    One recognizer serves any number of streams, one after another or interleaved, from one
    thread. Use one recognizer per thread.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        num_threads: int = 1,
        interpreter_class: Callable[..., Any] = Interpreter,
    ):
        """Loads a model file.

        Args:
          path: of a .tflite file written by `asr-qat export`.
          num_threads: threads of the interpreter, >= 1.
          interpreter_class: `Interpreter` of ai-edge-litert or of tflite-runtime.

        Raises:
          ModelFileError: the file is absent, damaged, not ours or no recogniser.
          ValueError: `num_threads` < 1.
        """
        if num_threads < 1:
            raise ValueError(f"num_threads must be >= 1, received {num_threads}")
        self.model_file = load_recognizer_file(path)
        metadata = self.model_file.metadata
        self.pieces: list[str] = self.model_file.pieces
        self.sample_rate: int = metadata["sample_rate"]  # Hz
        self.chunk_samples: int = metadata["chunk_samples"]
        self.tail_samples: int = metadata["tail_samples"]
        self.max_symbols_per_frame: int = metadata["max_symbols_per_frame"]
        try:
            interpreter = interpreter_class(
                model_content=self.model_file.content, num_threads=num_threads
            )
            frontend, encoder, prediction, joint = (Signature(interpreter, s) for s in SIGNATURES)
            self._bind(frontend, encoder, prediction, joint)
        except (ValueError, RuntimeError, KeyError) as error:
            what = f"lacks the tensor {error}" if isinstance(error, KeyError) else str(error)
            raise ModelFileError(f"{path}: " + what.partition("\n")[0]) from error
        self._interpreter = interpreter  # owns the memory behind the views

    def _bind(
        self, frontend: Signature, encoder: Signature, prediction: Signature, joint: Signature
    ) -> None:
        self._frontend, self._encoder = frontend, encoder
        self._prediction, self._joint = prediction, joint
        self._samples = frontend.inputs["samples"]
        self._features = frontend.outputs["features"]
        self._encoder_features = encoder.inputs["features"]
        self._encoded = encoder.outputs["encoded"]
        self._label = prediction.inputs["label"]
        self._predicted = prediction.outputs["predicted"]
        self._joint_encoded = joint.inputs["encoded"]
        self._joint_predicted = joint.inputs["predicted"]
        self._logits = joint.outputs["logits"]
        for what, got, wanted in (
            ("frontend samples", self._samples.shape, (1, self.chunk_samples)),
            ("encoder features", self._encoder_features.shape, self._features.shape),
            ("joint encoded", self._joint_encoded.shape[1:], self._encoded.shape[2:]),
            ("joint predicted", self._joint_predicted.shape, self._predicted.shape),
            ("joint logits", self._logits.shape, (1, len(self.pieces))),
        ):
            if got != wanted:
                raise ModelFileError(
                    f"{what} has the shape {list(got)}, expected {list(wanted)} from the rest of "
                    "the file"
                )

    @property
    def frame_seconds(self) -> float:
        """Duration of one encoder frame, in seconds."""
        return self.chunk_samples / self.sample_rate / self._encoded.shape[1]

    @property
    def state_bytes(self) -> int:
        """Bytes of streaming state that one stream needs."""
        return sum(s.state_bytes for s in (self._frontend, self._encoder, self._prediction))

    def stream(self) -> "Stream":
        """Starts an utterance."""
        return Stream(self)

    def transcribe(self, samples: np.ndarray) -> str:
        """Recognizes a whole utterance.

        Args:
          samples: float32 in [-1, 1] or int16, [n], at `sample_rate`.

        Raises:
          AudioError: the samples are of another kind.
        """
        stream = self.stream()
        stream.accept(samples)
        return stream.finish()

    def transcribe_with_times(self, samples: np.ndarray) -> list[tuple[str, float]]:
        """Like `transcribe`, but (piece, seconds from the start to the end of its frame)."""
        stream = self.stream()
        stream.accept(samples)
        stream.finish()
        return [(self.pieces[t.label], (t.frame + 1) * self.frame_seconds) for t in stream.tokens]

    def text(self, labels: list[int]) -> str:
        """The text of label ids."""
        return "".join(self.pieces[k] for k in labels).replace(WORD_START, " ").strip()

    def encode(self, chunk: np.ndarray, frontend: State, encoder: State) -> np.ndarray:
        """Runs frontend and encoder on one chunk.

        Args:
          chunk: float32 [chunk_samples].
          frontend: the stream's frontend state, advanced.
          encoder: the stream's encoder state, advanced.

        Returns:
          float32 [frames, dim], valid until the next call.
        """
        self._samples[0] = chunk
        self._frontend.step(frontend)
        self._encoder_features[...] = self._features
        self._encoder.step(encoder)
        return self._encoded[0]

    def predict(self, label: int, state: State) -> np.ndarray:
        """Runs the prediction network on a label: float32 [1, dim], a copy; advances `state`."""
        self._label[0] = label
        self._prediction.step(state)
        return self._predicted.copy()

    def joint(self, encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Runs the joint network: logits float32 [labels], valid until the next call."""
        self._joint_encoded[0] = encoded
        self._joint_predicted[...] = predicted
        self._joint.invoke()
        return self._logits[0]


class Stream:
    """One utterance: accepts blocks of samples of any size and knows the text so far."""

    def __init__(self, recognizer: Recognizer):
        """Starts an utterance; see `Recognizer.stream`."""
        self._recognizer = recognizer
        self._frontend, self._encoder, self._prediction = State(), State(), State()
        self._search = GreedySearch(
            joint=recognizer.joint,
            predict=lambda label: recognizer.predict(label, self._prediction),
            max_symbols=recognizer.max_symbols_per_frame,
        )
        self._chunk = np.zeros(recognizer.chunk_samples, np.float32)
        self._filled = 0  # samples of `_chunk` that wait for the rest
        self._finished = False

    @property
    def tokens(self) -> list[Token]:
        """The labels emitted so far, with their encoder frames."""
        return self._search.tokens

    @property
    def labels(self) -> list[int]:
        """The label ids emitted so far."""
        return [token.label for token in self.tokens]

    @property
    def text(self) -> str:
        """The text so far."""
        return self._recognizer.text(self.labels)

    def accept(self, samples: np.ndarray) -> str:
        """Takes the next block of samples.

        Args:
          samples: float32 in [-1, 1] or int16, [n]; any n, also 0.

        Returns:
          The text so far.

        Raises:
          AudioError: the samples are of another kind; the stream is unchanged.
          StreamError: the stream is finished.
        """
        if self._finished:
            raise StreamError("this stream is finished; start another with Recognizer.stream()")
        self._take(as_float32(samples))
        return self.text

    def finish(self) -> str:
        """Ends the utterance: decodes what is left, followed by the model's tail of silence.

        Returns:
          The final text. A second call returns it again.
        """
        if not self._finished:
            size = self._recognizer.chunk_samples
            missing = -(self._filled + self._recognizer.tail_samples) % size
            self._take(np.zeros(self._recognizer.tail_samples + missing, np.float32))
            self._finished = True
        return self.text

    def _take(self, samples: np.ndarray) -> None:
        size, position = self._chunk.size, 0
        while position < samples.size:
            taken = min(size - self._filled, samples.size - position)
            self._chunk[self._filled : self._filled + taken] = samples[position : position + taken]
            self._filled += taken
            position += taken
            if self._filled == size:
                self._filled = 0
                recognizer = self._recognizer
                encoded = recognizer.encode(self._chunk, self._frontend, self._encoder)
                self._search.advance(encoded)
