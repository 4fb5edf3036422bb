"""The input pipeline: utterances to the padded batches that training and evaluation read.

A batch is `{"audio": float32 [B, N], "audio_length": int32 [B], "labels": int32 [B, U],
"label_length": int32 [B]}`; `audio_length` counts the tail of zeros after each utterance. N and U
are fixed for each length bucket, so that XLA compiles once a bucket. Models that hear where speech
ends get further fields: see `ends.py`.
"""

import functools
import sys
import threading
from collections.abc import Sequence
from typing import NamedTuple

import grain
import numpy as np
from absl import logging

from asr_qat.data.audio import SAMPLE_RATE, AudioError, load_audio
from asr_qat.data.augment import WaveAugment
from asr_qat.data.ends import Segment, Target, speech_of
from asr_qat.data.manifest import Utterance
from asr_qat.data.plan import (
    FRAME_SAMPLES,
    DataError,
    PlannedBatch,
    evaluation_plan,
    make_buckets,
    training_plan,
)
from asr_qat.data.tokenizer import Tokenizer

Batch = dict[str, np.ndarray]

# Room for slowing down, in the choice of a bucket: enough for most of the range of speeds without
# filling the batches with padding.
_SPEED_MARGIN = 1.05
# A recording may differ that much from its manifest (rounded durations, codec delay).
_DURATION_TOLERANCE = (0.1, 0.02)  # seconds, share


class SpeechDataset(grain.IterDataset[Batch]):
    """A Grain dataset of batches, for `model.fit` and for plain iteration.

    Attributes:
      source: random access to the batches: `source[step]`, steps counted from `start_step`.
      steps_per_epoch: number of batches of an epoch.
    """

    def __init__(self, source: "BatchSource", num_threads: int):
        options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=4 * num_threads)
        super().__init__(grain.MapDataset.source(source).to_iter_dataset(options))
        self.source = source
        self.steps_per_epoch = source.steps_per_epoch

    def __iter__(self) -> grain.DatasetIterator[Batch]:
        """An iterator from the first batch, with `get_state` and `set_state`."""
        return self._parent.__iter__()


def make_dataset(
    utterances: Sequence[Utterance],
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    bucket_seconds: tuple[float, ...],
    epochs: int | None = 1,
    shuffle: bool,
    seed: int = 0,
    augment: WaveAugment | None = None,
    tail_ms: int = 320,
    max_bad_share: float = 0.02,
    num_threads: int = 2,
    max_symbols_per_frame: int = 5,
    frame_samples: int = FRAME_SAMPLES,
    start_step: int = 0,
    cache_bytes: int = 1 << 30,
    ends: Sequence[Target] = (),
    pad_second: bool = True,
) -> SpeechDataset:
    """Makes the dataset of a corpus.

    With `shuffle` (training), every epoch is shuffled anew, and all batches are full: fillers come
    from the same bucket. Without it (evaluation), every utterance occurs exactly once an epoch, in
    order of the buckets, and the last batch of a bucket may be smaller.

    A batch is a pure function of the arguments and its step, whatever the threads do. A recording
    that cannot be read is logged once and replaced by another one of its batch (training) or left
    out (evaluation).

    Args:
      utterances: the corpus.
      tokenizer: writes texts as labels.
      batch_size: B.
      bucket_seconds: longest utterance of each bucket, rising; longer ones are skipped.
      epochs: number of epochs; None repeats for ever.
      shuffle: training (True) or evaluation order (False).
      seed: seed of the order and of augmentation.
      augment: changes of the waveforms, or None.
      tail_ms: zeros after each utterance, so that the last label can be emitted.
      max_bad_share: largest share of the utterances that may be unreadable.
      num_threads: threads that make batches ahead; 0 makes them on demand.
      max_symbols_per_frame: greedy decoding's limit.
      frame_samples: samples of the model's encoder frame; batches hold a whole number of them.
      start_step: first step, to resume an interrupted run.
      cache_bytes: memory for decoded audio (16-bit: 32 kB a second).
      ends: what adds further fields to the batches.
      pad_second: whether the second batch may be padded further, so that `model.fit(dataset)`
        works (see `BatchSource._shape`); `asr_qat.training.feed` does without.

    Raises:
      LabelError: a text has a character outside the vocabulary.
      DataError: there are no usable utterances; while iterating: too many bad files.
      ValueError: an argument makes no sense.
    """
    source = BatchSource(
        utterances,
        tokenizer,
        batch_size=batch_size,
        bucket_seconds=bucket_seconds,
        epochs=epochs,
        shuffle=shuffle,
        seed=seed,
        augment=augment,
        tail_ms=tail_ms,
        max_bad_share=max_bad_share,
        max_symbols_per_frame=max_symbols_per_frame,
        frame_samples=frame_samples,
        start_step=start_step,
        cache_bytes=cache_bytes,
        ends=ends,
        pad_second=pad_second,
    )
    return SpeechDataset(source, num_threads)


class BatchSource:
    """Random access to the batches of a corpus; see `make_dataset` for the arguments."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        tokenizer: Tokenizer,
        *,
        batch_size: int,
        bucket_seconds: tuple[float, ...],
        epochs: int | None,
        shuffle: bool,
        seed: int,
        augment: WaveAugment | None,
        tail_ms: int,
        max_bad_share: float,
        max_symbols_per_frame: int,
        frame_samples: int,
        start_step: int,
        cache_bytes: int,
        ends: Sequence[Target],
        pad_second: bool,
    ):
        if batch_size < 1 or tail_ms < 0 or start_step < 0 or (epochs is not None and epochs < 1):
            raise ValueError(
                "expected batch_size >= 1, tail_ms >= 0, start_step >= 0 and epochs >= 1 or None,"
                f" got {batch_size}, {tail_ms}, {start_step} and {epochs}"
            )
        self.utterances = list(utterances)
        self.labels = [tokenizer.encode(utterance.text) for utterance in self.utterances]
        self.buckets = make_buckets(
            self.utterances,
            self.labels,
            bucket_seconds=bucket_seconds,
            tail_ms=tail_ms,
            margin=_SPEED_MARGIN if augment and augment.speed_probability else 1.0,
            max_symbols_per_frame=max_symbols_per_frame,
            frame_samples=frame_samples,
        )
        self._targets = [end.bind(self.utterances, self.labels, tokenizer) for end in ends]
        self._seed = seed
        self._augment = augment
        self._tail = tail_ms * SAMPLE_RATE // 1000
        self._start = start_step
        self._pad_second = pad_second
        self._shuffle = shuffle
        self._batch_size = batch_size
        self._recordings = _Recordings(self.utterances, max_bad_share, cache_bytes)
        self.plan = functools.lru_cache(maxsize=4)(self._plan)
        self.steps_per_epoch = len(self.plan(0))
        self._steps = sys.maxsize if epochs is None else epochs * self.steps_per_epoch
        if start_step >= self._steps:
            raise ValueError(f"expected start_step < {self._steps} steps, got {start_step}")

    def __len__(self) -> int:
        return self._steps - self._start

    def __getitem__(self, index: int) -> Batch:
        """The batch of step `start_step + index`."""
        epoch, planned = self.planned(index)
        bucket = self.buckets[planned.bucket]
        heard = [
            self._row(member, epoch, row, bucket.samples - self._tail)
            for row, member in enumerate(planned.members)
        ]
        rows = self._rows(planned.members, heard)
        samples, width = self._shape(index, planned)
        batch = {
            "audio": np.zeros((len(rows), samples), np.float32),
            "audio_length": np.zeros(len(rows), np.int32),
            "labels": np.zeros((len(rows), width), np.int32),
            "label_length": np.zeros(len(rows), np.int32),
        }
        for row, (member, wave, _) in enumerate(rows):
            batch["audio"][row, : len(wave)] = wave
            batch["audio_length"][row] = len(wave) + self._tail
            batch["labels"][row, : len(self.labels[member])] = self.labels[member]
            batch["label_length"][row] = len(self.labels[member])
        members, speech = [row.member for row in rows], [row.speech for row in rows]
        for target in self._targets:
            batch |= target.fields(members, speech, batch)
        return batch

    def __repr__(self) -> str:
        """Without the corpus: Grain prints it into its statistics."""
        return f"BatchSource({len(self.utterances)} utterances, {self.steps_per_epoch} steps)"

    def planned(self, index: int) -> tuple[int, PlannedBatch]:
        """Epoch and plan of the batch of step `start_step + index`."""
        epoch, position = divmod(self._start + index, self.steps_per_epoch)
        return epoch, self.plan(epoch)[position]

    def _plan(self, epoch: int) -> list[PlannedBatch]:
        if self._shuffle:
            return training_plan(self.buckets, self._batch_size, self._seed, epoch)
        return evaluation_plan(self.buckets, self._batch_size)

    def _row(self, member: int, epoch: int, row: int, room: int) -> "_Row | None":
        samples = self._recordings.load(member)
        if samples is None:
            return None
        samples = samples[:room]
        speech = speech_of(self.utterances[member], samples) if self._targets else []
        if self._augment is None:
            return _Row(member, samples, speech)
        rng = np.random.default_rng((self._seed, epoch, member, row))
        changed = self._augment.apply(samples, rng, max_samples=room)
        # Nothing but the speed changes the length, or the times of what is heard.
        slower = len(changed) / max(len(samples), 1)
        return _Row(member, changed, [(a * slower, b * slower) for a, b in speech])

    def _rows(self, members: Sequence[int], rows: Sequence["_Row | None"]) -> list["_Row"]:
        good = [row for row in rows if row is not None]
        if not good:
            raise DataError(
                "none of the recordings of a batch can be read, such as"
                f" {self.utterances[members[0]].audio_filepath}"
            )
        if not self._shuffle:
            return good
        return [good[i % len(good)] for i in range(len(members))]

    def _shape(self, index: int, planned: PlannedBatch) -> tuple[int, int]:
        """N and U of a batch.

        Keras infers which dimensions vary from the first two batches alone and rejects later ones
        that differ. So where those two share a bucket and other buckets exist, the second one is
        padded to the next larger shape; padding changes no result.
        """
        bucket = self.buckets[planned.bucket]
        several = self._pad_second and len(self.buckets) > 1
        if index == 1 and several and self.planned(0)[1].bucket == planned.bucket:
            if planned.bucket + 1 < len(self.buckets):
                bucket = self.buckets[planned.bucket + 1]
            else:
                return bucket.samples + 25 * FRAME_SAMPLES, bucket.labels + 4
        return bucket.samples, bucket.labels


class _Row(NamedTuple):
    """One row of a batch."""

    member: int
    samples: np.ndarray  # after augmentation
    speech: list[Segment]  # in them


class _Recordings:
    """Decoded audio of the utterances, cached, and the account of bad files. Thread-safe."""

    def __init__(self, utterances: list[Utterance], max_bad_share: float, cache_bytes: int):
        self._utterances = utterances
        self._max_bad_share = max_bad_share
        self._lock = threading.Lock()
        self._bad: dict[int, str] = {}
        self._cache: dict[int, np.ndarray] = {}
        self._cache_left = cache_bytes

    def load(self, member: int) -> np.ndarray | None:
        """Float32 `[samples]` of an utterance, or None where it is bad.

        Raises:
          DataError: too large a share of the utterances is bad.
        """
        integers = self._cache.get(member)
        if integers is None:
            if member in self._bad:
                return None
            try:
                integers = self._decode(self._utterances[member])
            except AudioError as error:
                self._note_bad(member, error)
                return None
            with self._lock:
                # No eviction: epochs visit everything, so the hit rate is the share that fits.
                if member not in self._cache and integers.nbytes <= self._cache_left:
                    self._cache[member] = integers
                    self._cache_left -= integers.nbytes
        return integers.astype(np.float32) / np.float32(32768.0)

    def _decode(self, utterance: Utterance) -> np.ndarray:
        samples = load_audio(utterance.audio_filepath)
        seconds = len(samples) / SAMPLE_RATE
        fixed, share = _DURATION_TOLERANCE
        if abs(seconds - utterance.duration) > fixed + share * utterance.duration:
            raise AudioError(
                f"{utterance.audio_filepath}: {seconds:.2f} s long, where the manifest says"
                f" {utterance.duration:.2f} s"
            )
        return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)

    def _note_bad(self, member: int, error: Exception) -> None:
        with self._lock:
            if member not in self._bad:
                self._bad[member] = str(error)
                logging.warning("bad recording, left out: %s", error)
            count, total = len(self._bad), len(self._utterances)
            if count / total > self._max_bad_share:
                examples = "\n  ".join(sorted(self._bad.values())[:5])
                raise DataError(
                    f"{count} of {total} recordings cannot be read; at most"
                    f" {self._max_bad_share:.1%} may be bad. Some of them:\n  {examples}"
                )
