"""The input pipeline: utterances to the padded batches that training and evaluation read.

A batch is `{"audio": float32 [B, N], "audio_length": int32 [B], "labels": int32 [B, U],
"label_length": int32 [B]}`; `audio_length` counts the tail of zeros after each utterance. N and U
are fixed for each length bucket, so that XLA compiles once a bucket. Models that hear where speech
ends get further fields: see `ends.py`.
"""

import functools
import sys
from collections.abc import Sequence
from typing import NamedTuple

import grain
import numpy as np

from asr_qat.data.audio import SAMPLE_RATE
from asr_qat.data.augment import Sounds, WaveAugment
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
from asr_qat.data.recordings import Recordings, to_float
from asr_qat.data.tokenizer import Tokenizer

Batch = dict[str, np.ndarray]

# Room for slowing down, in the choice of a bucket: enough for most of the range of speeds without
# filling the batches with padding.
_SPEED_MARGIN = 1.05


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
    sounds: Sounds | None = None,
    process_index: int = 0,
    process_count: int = 1,
    pad_second: bool = True,
) -> SpeechDataset:
    """Makes the dataset of a corpus.

    With `shuffle` (training), every epoch is shuffled anew, and all batches are full: fillers come
    from the same bucket. Without it (evaluation), every utterance occurs exactly once an epoch, in
    order of the buckets, and the last batch of a bucket may be smaller.

    A batch is a pure function of the arguments and its step, whatever the threads do. A recording
    that cannot be read is logged once and replaced by the next good one of its batch (training) or
    left out (evaluation).

    Several processes that train one model get a part each of the rows of every training batch:
    those parts, one below the other, are the batch that one process would get, with the same
    augmentation and replacements. Evaluation batches are whole in every process: all of them get
    as many, the same, and the same result.

    Args:
      utterances: the corpus.
      tokenizer: writes texts as labels.
      batch_size: B, of all processes together.
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
      sounds: recorded noise and rooms for `augment`.
      process_index: which process this is, from 0.
      process_count: how many processes share a training batch; divides `batch_size`.
      pad_second: whether the second batch may be padded further, so that `model.fit(dataset)`
        works (see `BatchSource._shape`); `asr_qat.training.feed` does without.

    Raises:
      LabelError: a text has a character outside the vocabulary.
      DataError: there are no usable utterances; while iterating: too many bad files, or a shard
        that vanished.
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
        sounds=sounds,
        process_index=process_index,
        process_count=process_count,
        pad_second=pad_second,
    )
    return SpeechDataset(source, num_threads)


class BatchSource:
    """Random access to the batches of a corpus; see `make_dataset` for the arguments.

    Attributes:
        utterances: the corpus.
        buckets: shapes of the batches.
        batch_size: rows of a batch, of all processes together.
    """

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
        sounds: Sounds | None,
        process_index: int,
        process_count: int,
        pad_second: bool,
    ):
        if batch_size < 1 or tail_ms < 0 or start_step < 0 or (epochs is not None and epochs < 1):
            raise ValueError(
                "expected batch_size >= 1, tail_ms >= 0, start_step >= 0 and epochs >= 1 or None,"
                f" got {batch_size}, {tail_ms}, {start_step} and {epochs}"
            )
        if not 0 <= process_index < process_count or batch_size % process_count:
            raise ValueError(
                "expected process_index in [0, process_count) and a batch_size that process_count"
                f" divides, got process_index={process_index}, process_count={process_count} and"
                f" batch_size={batch_size}"
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
        self._sounds = sounds
        self._tail = tail_ms * SAMPLE_RATE // 1000
        self._start = start_step
        self._pad_second = pad_second
        self._shuffle = shuffle
        self.batch_size = batch_size
        share = batch_size // process_count
        self._own_rows = range(process_index * share, (process_index + 1) * share)
        self._recordings = Recordings(self.utterances, max_bad_share, cache_bytes)
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
        rows = self._rows(planned.members, epoch, bucket.samples - self._tail)
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
            return training_plan(self.buckets, self.batch_size, self._seed, epoch)
        return evaluation_plan(self.buckets, self.batch_size)

    def _rows(self, members: Sequence[int], epoch: int, room: int) -> list["_Row"]:
        """The rows of a batch that are this process' own."""
        found = []
        for row in self._own_rows if self._shuffle else range(len(members)):
            # One member after another, from the row's own on, until a good one: a process need
            # not know what is bad in the parts of others to get what one process would get.
            turn = (*members[row:], *members[:row]) if self._shuffle else (members[row],)
            heard = (self._row(member, epoch, row, room) for member in turn)
            found.append(next((one for one in heard if one is not None), None))
        rows = [row for row in found if row is not None]
        if not rows:
            raise DataError(
                "none of the recordings of a batch can be read, such as"
                f" {self.utterances[members[0]].audio_filepath}"
            )
        return rows

    def _row(self, member: int, epoch: int, row: int, room: int) -> "_Row | None":
        integers = self._recordings.load(member)
        if integers is None:
            return None
        samples = to_float(integers[:room])
        speech = speech_of(self.utterances[member], samples) if self._targets else []
        if self._augment is None:
            return _Row(member, samples, speech)
        rng = np.random.default_rng((self._seed, epoch, member, row))
        changed = self._augment.apply(samples, rng, max_samples=room, sounds=self._sounds)
        # Nothing but the speed changes the length, or the times of what is heard.
        slower = len(changed) / max(len(samples), 1)
        return _Row(member, changed, [(a * slower, b * slower) for a, b in speech])

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
