"""The streaming recogniser: an exported .tflite file in, text out.

recognizer = Recognizer("model.tflite")
recognizer.transcribe(samples)                 # a whole utterance
stream = recognizer.stream()                   # or as it is spoken
for block in microphone: print(stream.accept(block))
print(stream.finish())

A model with several passes gives partial results by the first of them and final ones by the last.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .decoder import Decoder
from .encoders import Encoders
from .ends import bind_end_joints, bind_endpointers
from .interpreter import Interpreter
from .model_file import ModelFileError, load_recognizer_file
from .search.config import GREEDY, SearchConfig
from .search.scorer import LabelScorer
from .search.words import Word
from .stream import Stream
from .transcript import Transcript, text_of


class Recognizer:
    """A loaded model; makes streams.

    One recognizer serves any number of streams, one after another or interleaved, from one
    thread. Use one recognizer per thread.

    Attributes:
      pieces: the vocabulary; index 0 is the blank.
      passes: names of the passes, from partial to final.
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
        metadata, passes = self.model_file.metadata, self.model_file.passes
        self.pieces: list[str] = self.model_file.pieces
        self.passes: list[str] = [one["name"] for one in passes]
        self.sample_rate: int = metadata["sample_rate"]  # Hz
        self.chunk_samples: int = metadata["chunk_samples"]
        self.tail_samples: int = metadata["tail_samples"]
        self.max_symbols_per_frame: int = metadata["max_symbols_per_frame"]
        try:
            interpreter = interpreter_class(
                model_content=self.model_file.content, num_threads=num_threads
            )
            names = max((one["encoders"] for one in passes), key=len)
            self.encoders = Encoders(interpreter, names, self.chunk_samples)
            made: dict[tuple[str, str], Decoder] = {}
            for one in passes:
                pair = (one["prediction"], one["joint"])
                if one["encoders"] != names[: len(one["encoders"])]:
                    raise ModelFileError(
                        f"pass {one['name']!r} reads {one['encoders']}; expected the first "
                        f"of {names}"
                    )
                made[pair] = made.get(pair) or Decoder(interpreter, *pair)
            self.decoders = [made[one["prediction"], one["joint"]] for one in passes]
            depths = [len(one["encoders"]) for one in passes]
            if depths != sorted(set(depths)):
                raise ModelFileError(
                    f"its passes read encoders {depths}; expected each a later one than the last"
                )
            self.endpointers = bind_endpointers(interpreter, self.model_file, names, self.encoders)
            self.end_joints = bind_end_joints(
                interpreter, self.model_file, self.decoders, self.encoders
            )
            for one, decoder in zip(passes, self.decoders, strict=True):
                decoder.check(self.encoders.dims[len(one["encoders"]) - 1], len(self.pieces))
        except (ValueError, RuntimeError, KeyError) as error:
            what = f"lacks the tensor {error}" if isinstance(error, KeyError) else str(error)
            raise ModelFileError(f"{path}: " + what.partition("\n")[0]) from error
        self._interpreter = interpreter  # owns the memory behind the views

    @property
    def frame_seconds(self) -> float:
        """Duration of one frame of the last pass, in seconds."""
        depth = len(self.model_file.passes[-1]["encoders"])
        return self.chunk_samples / self.sample_rate / self.encoders.frames[depth - 1]

    @property
    def state_bytes(self) -> int:
        """Bytes of streaming state that one stream needs."""
        decoders = sum(decoder.state_bytes for decoder in self.decoders)
        endpointers = sum(endpointer.state_bytes for endpointer in self.endpointers)
        return self.encoders.state_bytes + decoders + endpointers

    def stream(
        self,
        eou_threshold: float | None = 0.5,
        eos_threshold: float | None = None,
        search: SearchConfig = GREEDY,
        scorers: Sequence[LabelScorer] = (),
    ) -> Stream:
        """Starts an utterance.

        Args:
          eou_threshold: probability from which on the end of the utterance is heard
            (`Stream.ended`), by models with an end joint for it; None: it is not listened to.
          eos_threshold: the same for ends of segments. There the last pass ends at once and starts
            anew (`Stream.segments`), for speech that goes on and on. None: one segment.
          search: how every pass is searched; by default greedily.
          scorers: what adds to the scores of labels, in every pass; each pass starts them anew.

        Raises:
          ValueError: `eos_threshold` for a model that hears no ends of segments; a scorer of
            another vocabulary.
        """
        if eos_threshold is not None and "segment" not in [j.kind for j in self.end_joints]:
            raise ValueError(
                f"eos_threshold: received {eos_threshold}, but the model has no end joint that "
                "marks segments"
            )
        for scorer in scorers:
            shape = scorer.scores(scorer.start()).shape
            if shape != (len(self.pieces),):
                raise ValueError(
                    f"{type(scorer).__name__} scores labels {list(shape)}, expected "
                    f"[{len(self.pieces)}], the model's vocabulary"
                )
        return Stream(self, eou_threshold, eos_threshold, search, scorers)

    def transcribe(
        self,
        samples: np.ndarray,
        search: SearchConfig = GREEDY,
        scorers: Sequence[LabelScorer] = (),
    ) -> str:
        """Recognizes a whole utterance; the last pass's text.

        Args:
          samples: float32 in [-1, 1] or int16, [n], at `sample_rate`.
          search: as for `stream`.
          scorers: as for `stream`.

        Raises:
          AudioError: the samples are of another kind.
        """
        return self.transcribe_all(samples, search, scorers)[-1]

    def transcribe_all(
        self,
        samples: np.ndarray,
        search: SearchConfig = GREEDY,
        scorers: Sequence[LabelScorer] = (),
    ) -> list[str]:
        """Like `transcribe`, but the text of every pass."""
        return self._heard(samples, search, scorers).texts

    def nbest(
        self,
        samples: np.ndarray,
        search: SearchConfig,
        scorers: Sequence[LabelScorer] = (),
    ) -> list[Transcript]:
        """Like `transcribe`, but the likeliest transcripts, `search.nbest` at most, best first."""
        return self._heard(samples, search, scorers).nbest()

    def words(
        self,
        samples: np.ndarray,
        search: SearchConfig = GREEDY,
        scorers: Sequence[LabelScorer] = (),
    ) -> list[Word]:
        """Like `transcribe`, but the words with their times."""
        return self._heard(samples, search, scorers).words

    def transcribe_with_times(self, samples: np.ndarray) -> list[tuple[str, float]]:
        """Like `transcribe`, but (piece, seconds from the start to the end of its frame)."""
        tokens = self._heard(samples, GREEDY, ()).tokens
        return [(self.pieces[t.label], (t.frame + 1) * self.frame_seconds) for t in tokens]

    def _heard(self, samples, search, scorers):
        stream = self.stream(eou_threshold=None, search=search, scorers=scorers)
        stream.accept(samples)
        stream.finish()
        return stream

    def text(self, labels: list[int]) -> str:
        """The text of label ids."""
        return text_of(labels, self.pieces)
