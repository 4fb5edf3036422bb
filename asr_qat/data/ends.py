"""Where speech ends: what an endpointer and end joints learn, as further fields of a batch.

A row of a manifest may say in `segments` where speech is (`[[start, end], ...]` in seconds, of the
recording) and in `ends` after which words a segment of it ends (counted from 1; the last word's
end is one in any case). Without `segments` the recording's energy tells; without `ends` the
utterance is one segment.

The tail of zeros after an utterance is heard as final silence. Zeros are easier to hear than the
silence of a room, so recordings to learn from should go on for a while after the last word.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from asr_qat.data.audio import SAMPLE_RATE
from asr_qat.data.manifest import Utterance
from asr_qat.data.plan import DataError
from asr_qat.data.tokenizer import Tokenizer

Segment = tuple[float, float]  # start and end of speech, in seconds
Batch = dict[str, np.ndarray]

SPEECH, INITIAL, INTERMEDIATE, FINAL = range(4)
FRAME_CLASSES = ("speech", "initial_silence", "intermediate_silence", "final_silence")
IGNORED = -1  # the class of frames beyond an utterance

# Of `detect_speech`; lengths are in frames of 10 ms, levels in dB of full scale.
_HOP = SAMPLE_RATE // 100
_INAUDIBLE = -60.0
_RANGE = 35.0  # speech is at most so far below its own loud parts
_STEADY = 12.0  # a smaller range of levels is one sound, not speech and silence
_SHORTEST_PAUSE, _SHORTEST_SPEECH = 20, 5


def detect_speech(samples: np.ndarray) -> list[Segment]:
    """Where a clean recording has speech, by its energy.

    A frame of 10 ms is speech where its level is above a third of the way from the quiet parts
    (the 10th percentile) to the loud ones (the 95th), and within 35 dB of these. Pauses shorter
    than 200 ms are then filled, and sounds shorter than 50 ms left out. A recording of one level
    is speech throughout, or nowhere if it is inaudible.

    Args:
      samples: float32 `[samples]` at 16 kHz, before noise is added.
    """
    count = len(samples) // _HOP
    power = np.square(samples[: count * _HOP], dtype=np.float64).reshape(count, _HOP).mean(axis=1)
    levels = 10 * np.log10(np.maximum(power, 1e-10))
    if not count or (top := np.percentile(levels, 95)) < _INAUDIBLE:
        return []
    floor = np.percentile(levels, 10)
    if top - floor < _STEADY:
        return [(0.0, len(samples) / SAMPLE_RATE)]
    loud = levels > max(floor + (top - floor) / 3, top - _RANGE)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]])))
    runs: list[list[int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] < _SHORTEST_PAUSE:
            runs[-1][1] = end
        else:
            runs.append([start, end])
    kept = [run for run in runs if run[1] - run[0] >= _SHORTEST_SPEECH]
    return [(start * _HOP / SAMPLE_RATE, end * _HOP / SAMPLE_RATE) for start, end in kept]


def speech_of(utterance: Utterance, samples: np.ndarray) -> list[Segment]:
    """The segments of speech of a recording: its manifest's, or those that are detected.

    Raises:
      DataError: the manifest's are no rising pairs of seconds.
    """
    if "segments" not in utterance.extra:
        return detect_speech(samples)
    given = utterance.extra["segments"]
    try:
        segments = [(float(start), float(end)) for start, end in given]
    except (TypeError, ValueError):
        segments = [(0.0, 0.0)]
    times = [0.0, *(time for segment in segments for time in segment)]
    if any(a > b for a, b in zip(times, times[1:], strict=False)) or (0.0, 0.0) in segments:
        raise DataError(
            f"utterance {utterance.id!r}: segments {given!r}; expected rising [start, end] seconds"
        )
    return segments


def frame_classes(
    segments: Sequence[Segment], samples: int, frames: int, frame_samples: int
) -> np.ndarray:
    """The class of each frame, int32 `[frames]`: what is at its middle.

    Args:
      segments: of speech; without any, all is initial silence.
      samples: of the utterance; frames that are not wholly within it are `IGNORED`.
      frames: how many.
      frame_samples: samples of a frame.
    """
    middles = (np.arange(frames) + 0.5) * frame_samples / SAMPLE_RATE
    times = np.array(segments, np.float64).reshape(-1, 2)
    begun = np.searchsorted(times[:, 0], middles, side="right")
    ended = np.searchsorted(times[:, 1], middles, side="right")
    silence = np.where(begun == 0, INITIAL, np.where(begun < len(times), INTERMEDIATE, FINAL))
    classes = np.where(begun > ended, SPEECH, silence)
    classes[samples // frame_samples :] = IGNORED
    return classes.astype(np.int32)


def ends_after_pauses(words: Sequence[Segment], pause_ms: float) -> list[int]:
    """A manifest's `ends`: the words, counted from 1, with a pause after them.

    Args:
      words: start and end of each word, in seconds.
      pause_ms: the shortest pause that ends a segment.
    """
    pairs = zip(words, words[1:], strict=False)
    return [n for n, (a, b) in enumerate(pairs, 1) if round(1000 * (b[0] - a[1])) >= pause_ms]


def labels_before_ends(
    utterance: Utterance, labels: Sequence[int], tokenizer: Tokenizer
) -> list[int]:
    """How many labels come before each end of a segment, from the manifest's `ends`.

    Raises:
      DataError: there are no such words, or the tokenizer joins words into one label.
    """
    words = [match.end() for match in re.finditer(r"\S+", utterance.text)]
    counts = {len(labels)}
    for number in utterance.extra.get("ends", ()):
        if not isinstance(number, int) or not 1 <= number <= len(words):
            raise DataError(
                f"utterance {utterance.id!r}: ends {utterance.extra['ends']!r}; expected numbers "
                f"of its {len(words)} words, from 1"
            )
        before = tokenizer.encode(utterance.text[: words[number - 1]])
        if list(labels[: len(before)]) != before:
            raise DataError(f"utterance {utterance.id!r}: no label ends with word {number}")
        counts.add(len(before))
    return sorted(counts)


def with_ends(labels: Sequence[int], counts: Sequence[int], symbol: int) -> list[int]:
    """Labels with `symbol` put in after so many of them, at each of the rising `counts`."""
    parts = zip([0, *counts], counts, strict=False)
    return [label for start, end in parts for label in (*labels[start:end], symbol)]


class Target(Protocol):
    """Makes further fields of batches, once it knows the corpus."""

    def bind(
        self, utterances: Sequence[Utterance], labels: Sequence[Sequence[int]], tokenizer: Tokenizer
    ) -> "BoundTarget":
        """For this corpus."""


class BoundTarget(Protocol):
    """Makes further fields of batches."""

    def fields(
        self, members: Sequence[int], speech: Sequence[Sequence[Segment]], batch: Batch
    ) -> Batch:
        """The fields.

        Args:
          members: the utterance of each row.
          speech: segments of each row, in seconds of its waveform in the batch.
          batch: all other fields.
        """


@dataclass(frozen=True, kw_only=True)
class FrameClasses:
    """`frame_classes` int32 `[B, frames]` for an endpointer."""

    frame_samples: int  # of a frame that it hears

    def bind(self, utterances: Any, labels: Any, tokenizer: Any) -> "FrameClasses":
        """Itself."""
        return self

    def fields(
        self, members: Sequence[int], speech: Sequence[Sequence[Segment]], batch: Batch
    ) -> Batch:
        """See `BoundTarget`."""
        frames = batch["audio"].shape[1] // self.frame_samples
        rows = [
            frame_classes(segments, int(length), frames, self.frame_samples)
            for segments, length in zip(speech, batch["audio_length"], strict=True)
        ]
        return {"frame_classes": np.stack(rows)}


@dataclass(frozen=True, kw_only=True)
class EndLabels:
    """`<name>_labels` int32 `[B, U + ends]` and `<name>_label_length` for an end joint."""

    name: str
    symbol: int  # stands for the end
    of_segments: bool  # whether also for the manifest's `ends`

    def bind(
        self, utterances: Sequence[Utterance], labels: Sequence[Sequence[int]], tokenizer: Tokenizer
    ) -> "_BoundEndLabels":
        """With the labels of every utterance."""
        counts = [
            labels_before_ends(utterance, ids, tokenizer) if self.of_segments else [len(ids)]
            for utterance, ids in zip(utterances, labels, strict=True)
        ]
        pairs = zip(labels, counts, strict=True)
        sequences = [with_ends(ids, ends, self.symbol) for ids, ends in pairs]
        return _BoundEndLabels(self.name, sequences, max(len(ends) for ends in counts))


@dataclass(frozen=True)
class _BoundEndLabels:
    name: str
    sequences: list[list[int]]
    most_ends: int  # of any utterance: the width has to rise with that of the labels, nothing else

    def fields(
        self, members: Sequence[int], speech: Sequence[Sequence[Segment]], batch: Batch
    ) -> Batch:
        rows = [self.sequences[member] for member in members]
        labels = np.zeros((len(rows), batch["labels"].shape[1] + self.most_ends), np.int32)
        for row, sequence in zip(labels, rows, strict=True):
            row[: len(sequence)] = sequence
        lengths = np.array([len(sequence) for sequence in rows], np.int32)
        return {f"{self.name}_labels": labels, f"{self.name}_label_length": lengths}
