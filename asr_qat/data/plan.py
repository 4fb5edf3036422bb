"""Which utterances make which batch: length buckets and a batch plan for each epoch.

Everything here is a pure function of the utterances, the settings, the seed and the epoch.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from absl import logging

from asr_qat.data.audio import SAMPLE_RATE
from asr_qat.data.manifest import Utterance

FRAME_SAMPLES = 640  # of an encoder frame of 40 ms
_LABEL_MULTIPLE = 4


class DataError(ValueError):
    """Utterances that cannot be made into batches."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Utterances of similar length, padded to the same shapes."""

    samples: int  # N of the batch, with the tail; a multiple of the encoder frame
    labels: int  # U of the batch
    members: tuple[int, ...]  # indices into the utterances, in their order


@dataclass(frozen=True, kw_only=True)
class PlannedBatch:
    """One batch of a plan."""

    bucket: int
    members: tuple[int, ...]  # indices into the utterances


def make_buckets(
    utterances: Sequence[Utterance],
    labels: Sequence[Sequence[int]],
    *,
    bucket_seconds: Sequence[float],
    tail_ms: int,
    margin: float = 1.0,
    max_symbols_per_frame: int = 5,
    frame_samples: int = FRAME_SAMPLES,
) -> list[Bucket]:
    """Sorts utterances into length buckets; empty buckets are left out.

    Args:
      utterances: the corpus; those longer than the last bucket are skipped with one warning.
      labels: label ids of each utterance.
      bucket_seconds: longest duration of each bucket, rising, without the tail.
      tail_ms: zeros after each utterance.
      margin: an utterance goes where `margin` times its duration fits, so that it can be slowed
        down; in the last bucket it need only fit itself.
      max_symbols_per_frame: greedy decoding's limit.
      frame_samples: samples of an encoder frame; batches hold a whole number of them.

    Raises:
      DataError: nothing is left, or an utterance has more labels than decoding could emit.
      ValueError: the bucket limits do not rise.
    """
    limits = [float(limit) for limit in bucket_seconds]
    if (
        not limits
        or limits[0] <= 0
        or any(a >= b for a, b in zip(limits, limits[1:], strict=False))
    ):
        raise ValueError(f"expected rising positive bucket limits in seconds, got {bucket_seconds}")
    members: list[list[int]] = [[] for _ in limits]
    too_long = []
    for index, utterance in enumerate(utterances):
        if utterance.duration > limits[-1]:
            too_long.append(utterance)
            continue
        bucket = bisect.bisect_left(limits, utterance.duration * margin)
        members[min(bucket, len(limits) - 1)].append(index)
        frames = int((utterance.duration + tail_ms / 1000) * SAMPLE_RATE) // frame_samples
        if len(labels[index]) > frames * max_symbols_per_frame:
            raise DataError(
                f"utterance {utterance.id!r} ({utterance.audio_filepath}): {len(labels[index])}"
                f" labels in {utterance.duration:.2f} s; its {frames} encoder frames can emit at"
                f" most {frames * max_symbols_per_frame}. Is the transcript that of this audio?"
            )
    if too_long:
        logging.warning(
            "%d of %d utterances are longer than the largest bucket (%g s) and are skipped, such as"
            " %s (%.2f s)",
            *(len(too_long), len(utterances), limits[-1], too_long[0].id, too_long[0].duration),
        )
    buckets: list[Bucket] = []
    # U rises with N even where the labels do not: see the shapes that Keras infers, pipeline.py.
    width = 0
    for limit, indices in zip(limits, members, strict=True):
        if indices:
            longest = max(len(labels[i]) for i in indices)
            width = max(_round_up(max(longest, 1), _LABEL_MULTIPLE), width + _LABEL_MULTIPLE)
            samples = _round_up(round((limit + tail_ms / 1000) * SAMPLE_RATE), frame_samples)
            buckets.append(Bucket(samples=samples, labels=width, members=tuple(indices)))
    if not buckets:
        raise DataError(
            f"expected utterances of at most {limits[-1]} s, got {len(utterances)} that are none"
        )
    return buckets


def training_plan(
    buckets: Sequence[Bucket], batch_size: int, seed: int, epoch: int
) -> list[PlannedBatch]:
    """The shuffled batches of an epoch, all full.

    What a bucket has beyond full batches moves up into the next one; in the last bucket, random
    further members fill the batch. So every utterance occurs at least once an epoch, and every
    epoch has the same number of batches.
    """
    rng = np.random.default_rng((seed, epoch))
    batches: list[PlannedBatch] = []
    left: list[int] = []
    for number, bucket in enumerate(buckets):
        left += bucket.members
        rng.shuffle(left)
        if number == len(buckets) - 1 and (missing := -len(left) % batch_size):
            fillers = sorted(set(bucket.members) - set(left[-(batch_size - missing) :]))
            left += rng.permutation(fillers).tolist()[:missing]
            while len(left) % batch_size:  # fewer utterances than the batch has rows
                left.append(left[int(rng.integers(len(left)))])
        full = len(left) // batch_size * batch_size
        for start in range(0, full, batch_size):
            batches.append(
                PlannedBatch(bucket=number, members=tuple(left[start : start + batch_size]))
            )
        left = left[full:]
    return [batches[i] for i in rng.permutation(len(batches))]


def evaluation_plan(buckets: Sequence[Bucket], batch_size: int) -> list[PlannedBatch]:
    """Every utterance once, shortest bucket first; the last batch of a bucket may be smaller."""
    return [
        PlannedBatch(bucket=number, members=bucket.members[start : start + batch_size])
        for number, bucket in enumerate(buckets)
        for start in range(0, len(bucket.members), batch_size)
    ]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
