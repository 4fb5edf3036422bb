"""What a person sees of a run as it goes: speed, shapes that are compiled, and what goes wrong."""

import math
import sys
import time
from pathlib import Path
from typing import TextIO

import keras
from keras import ops

from asr_qat.data.audio import SAMPLE_RATE
from asr_qat.data.pipeline import BatchSource
from asr_qat.data.plan import Bucket
from asr_qat.losses.memory import fused_bytes, logits_bytes
from asr_qat.models.transducer import Transducer
from asr_qat.training.checkpoint_files import checkpoint_paths, step_of


class NotFiniteError(ValueError):
    """A loss that is no number."""


class StopOnNotFinite(keras.callbacks.Callback):
    """Ends the run with an error at the first step whose loss is no number.

    Args:
        steps_per_epoch: of a whole epoch.
        folder: of the checkpoints, the last of which the message names.
    """

    def __init__(self, steps_per_epoch: int, folder: Path):
        super().__init__()
        self.steps_per_epoch, self.folder = steps_per_epoch, folder
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Raises `NotFiniteError`; Keras' mean over the epoch stops being a number just then."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            in_epoch = self.params.get("steps_before", 0) + batch + 1
            step = self._epoch * self.steps_per_epoch + in_epoch
            raise NotFiniteError(
                f"step {step}: the loss is {loss}, expected a number; "
                f"{last_good(self.folder)}. A lower --learning-rate or --clip-norm is the usual "
                "remedy"
            )


def last_good(folder: Path) -> str:
    """What a run goes on from when its command is given again, as a clause."""
    paths = checkpoint_paths(folder)
    if not paths:
        return "there is no checkpoint yet, so the same command begins anew"
    return f"the same command goes on from step {step_of(paths[-1])} ({paths[-1]})"


def describe(bucket: Bucket) -> str:
    """A batch's shape in words."""
    return f"{bucket.samples / SAMPLE_RATE:.1f} s x {bucket.labels} labels"


def loss_memory(model: Transducer, source: BatchSource) -> str:
    """What the loss of the largest batch takes, in words."""
    largest = max(source.buckets, key=lambda bucket: bucket.samples * (bucket.labels + 1))
    features = largest.samples // model.frontend.hop_samples
    frames = max(one.lengths(features) for one in model.passes)
    sizes = (source.batch_size, frames, largest.labels, model.vocabulary_size)
    fused = fused_bytes(*sizes, model.config.joint.dim)
    return (
        f"the loss takes about {fused / 2**20:.0f} MiB at most; the logits of that batch, "
        f"{list(sizes[:2])} x {largest.labels + 1} x {sizes[3]}, would take "
        f"{logits_bytes(*sizes) / 2**20:.0f} MiB"
    )


class Speed(keras.callbacks.Callback):
    """Logs ``step_ms``, ``audio_h_per_h`` and ``learning_rate``; announces compilation.

    ``audio_h_per_h`` is hours of recordings (without padding) that an hour of training takes in.
    Both are means over the epoch with all that happens between steps, checkpoints included, but
    without steps whose shape is compiled, if there are others, and without validation.

    It is a `checkpoints.Part`: an epoch that is gone on with has one mean.

    Args:
        source: of the batches; its steps are counted from where the run begins.
        stream: for the announcements; None for none.
        below_bar: whether a progress bar may stand in the line.
    """

    name = "speed"

    def __init__(
        self,
        source: BatchSource,
        stream: TextIO | None = sys.stderr,
        below_bar: bool = False,
    ):
        super().__init__()
        self.source, self.stream, self.below_bar = source, stream, below_bar
        self.total_hours = 0.0  # of recordings, of the whole run
        self.total_seconds = 0.0  # of training
        self._index = 0  # of the step in `source`
        self._seen: set[int] = set()  # buckets
        self._epoch = self._nothing()
        self._last = 0.0

    @staticmethod
    def _nothing():
        return {kind: {"steps": 0, "seconds": 0.0, "hours": 0.0} for kind in ("warm", "first")}

    def on_train_begin(self, logs=None):
        """Says what will be compiled."""
        buckets = self.source.buckets
        shapes = "; ".join(describe(bucket) for bucket in buckets)
        plural = "shapes, each" if len(buckets) > 1 else "shape,"
        self._say(f"{len(buckets)} batch {plural} compiled when it first comes: {shapes}")

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        if not self.params.get("steps_before"):
            self._epoch = self._nothing()
        self._last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Adds a step."""
        planned = self.source.planned(self._index)[1]
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        hours = sum(self.source.utterances[i].duration for i in planned.members) / 3600
        first = planned.bucket not in self._seen
        if first:
            self._seen.add(planned.bucket)
            self._say(
                ("\n" if self.below_bar else "")
                + f"shape {len(self._seen)} of {len(self.source.buckets)} "
                f"({describe(self.source.buckets[planned.bucket])}) is compiled; its first step "
                f"took {seconds:.1f} s"
            )
        sums = self._epoch["first" if first else "warm"]
        sums["steps"] += 1
        sums["seconds"] += seconds
        sums["hours"] += hours
        self.total_hours += hours
        self.total_seconds += seconds
        self._index += 1

    def on_epoch_end(self, epoch, logs=None):
        """Logs the means."""
        sums = self._epoch["warm"] if self._epoch["warm"]["steps"] else self._epoch["first"]
        if logs is not None and sums["steps"]:
            logs["step_ms"] = 1000 * sums["seconds"] / sums["steps"]
            logs["audio_h_per_h"] = 3600 * sums["hours"] / sums["seconds"]
            logs["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def get_state(self):
        """The sums."""
        return {
            "epoch": {kind: dict(sums) for kind, sums in self._epoch.items()},
            "total_hours": self.total_hours,
            "total_seconds": self.total_seconds,
        }

    def set_state(self, state):
        """The inverse of `get_state`."""
        self._epoch = {kind: dict(sums) for kind, sums in state["epoch"].items()}
        self.total_hours = state["total_hours"]
        self.total_seconds = state["total_seconds"]

    def _say(self, message):
        if self.stream is not None:
            print(message, file=self.stream, flush=True)
