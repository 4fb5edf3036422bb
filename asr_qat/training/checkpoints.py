"""All state of a training run: taken to checkpoints as it goes, and put back to go on from them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from asr_qat.training.checkpoint_files import (
    Checkpoint,
    CheckpointError,
    checkpoint_path,
    remove_old,
    write_checkpoint,
)


class Part(Protocol):
    """A callback with state of its own that checkpoints hold."""

    name: str

    def get_state(self) -> dict[str, Any]:
        """NumPy arrays, and values that are JSON-ready."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `get_state`."""


def state_variables(model: keras.Model) -> dict[str, Any]:
    """Every variable that training changes, by a name that is the same in every process.

    Weights, learned ranges, masks, states of seed generators, the optimizer's and the metrics'
    variables. Keras numbers seed generators through the whole process, so those are numbered here.
    """
    groups = {
        "model": [*model.trainable_variables, *(v for v in model.variables if not v.trainable)],
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    named: dict[str, Any] = {}
    seen: Counter[str] = Counter()
    for group, variables in groups.items():
        for variable in variables:
            path = re.sub(r"(^|/)seed_generator_\d+/", r"\1seed_generator/", variable.path)
            name = f"{group}/{path}"
            seen[name] += 1
            named[name if seen[name] == 1 else f"{name}#{seen[name]}"] = variable
    return named


def model_state(model: keras.Model) -> dict[str, np.ndarray]:
    """The values of `state_variables`, also in the middle of an epoch."""
    if hasattr(model, "jax_state_sync"):
        # JAX's trainer holds the state itself within an epoch; after this it gives it to the
        # variables, and takes it from there again for the next step.
        model.jax_state_sync()
    # Copies: TensorFlow's arrays may be views of what the next step overwrites.
    return {n: np.array(ops.convert_to_numpy(v)) for n, v in state_variables(model).items()}


def restore_state(
    model: keras.Model, checkpoint: Checkpoint, groups: Sequence[str] = ("model", "optimizer")
) -> None:
    """Puts the variables of some groups back as they were.

    Raises:
        CheckpointError: if the checkpoint is that of another model or optimizer; nothing is
            changed then.
    """
    variables = state_variables(model)
    saved = {n: a for n, a in checkpoint.arrays.items() if not n.startswith("parts/")}
    for name in sorted(variables.keys() ^ saved.keys()):
        where = "the model" if name in variables else "the checkpoint"
        raise CheckpointError(
            f"{checkpoint.path}: is of another model: {name} is in {where} alone; expected the "
            "command that began the run, or another folder"
        )
    for name, variable in variables.items():
        shape, dtype = tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype)
        if saved[name].shape != shape or str(saved[name].dtype) != dtype:
            raise CheckpointError(
                f"{checkpoint.path}: is of another model: {name} is {saved[name].dtype} "
                f"{list(saved[name].shape)}, expected {dtype} {list(shape)}"
            )
    for name, variable in variables.items():
        if name.split("/")[0] in groups:
            variable.assign(saved[name])


def require_settings(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Raises `CheckpointError` if the run that wrote a checkpoint had other settings."""
    saved = checkpoint.metadata["settings"]
    for name in [*settings, *(saved.keys() - settings.keys())]:
        ours, theirs = settings.get(name), saved.get(name)
        if ours != theirs:
            raise CheckpointError(
                f"{checkpoint.path}: this run has {name} {_short(theirs)}, received "
                f"{_short(ours)}; expected the command that began it, or another folder"
            )


def _short(value):
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Resume(keras.callbacks.Callback):
    """Puts a run back to a checkpoint, also in the middle of an epoch.

    Comes first in the list of callbacks. ``fit`` gets ``initial_epoch=resume.epoch`` and data that
    start at step ``resume.step``; the first epoch then ends after the steps that it still has. The
    other callbacks find the steps it had in ``params["steps_before"]`` until it ends.

    Args:
        checkpoint: or None for a new run, which this leaves alone.
        steps_per_epoch: of a whole epoch.
        parts: callbacks whose state is put back, too.
    """

    def __init__(
        self, checkpoint: Checkpoint | None, steps_per_epoch: int, parts: Sequence[Part] = ()
    ):
        super().__init__()
        self.checkpoint, self.parts = checkpoint, tuple(parts)
        self.step: int = 0 if checkpoint is None else checkpoint.metadata["step"]
        self.steps_per_epoch = steps_per_epoch
        self.epoch: int = self.step // steps_per_epoch
        self.steps_before: int = self.step % steps_per_epoch
        self._ends_early = False

    def on_train_begin(self, logs=None):
        """Restores all but the metrics; raises `CheckpointError` where that cannot be."""
        self.params["steps_before"] = self.steps_before
        if self.checkpoint is not None:
            restore_state(self.model, self.checkpoint)
            restore_parts(self.checkpoint, self.parts)

    def on_epoch_begin(self, epoch, logs=None):
        """Restores the metrics, which Keras has just reset."""
        if self.checkpoint is not None and self.params["steps_before"]:
            restore_state(self.model, self.checkpoint, ("metrics",))

    def on_train_batch_end(self, batch, logs=None):
        """Ends the epoch that was begun before."""
        before = self.params["steps_before"]
        if before and before + batch + 1 >= self.steps_per_epoch:
            # Keras then goes on with the validation and the end of the epoch.
            self.model.stop_training = self._ends_early = True

    def on_epoch_end(self, epoch, logs=None):
        """Lets the next epoch begin."""
        if self._ends_early:
            self.model.stop_training = self._ends_early = False
        self.params["steps_before"] = 0


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint every so many steps and after every epoch.

    Comes last in the list of callbacks, so that what the others do at that time is in it.

    Args:
        folder: of the checkpoints.
        steps_per_epoch: of a whole epoch.
        every: steps between two checkpoints.
        keep: checkpoints that stay; older ones are removed.
        settings: JSON-ready; what a run must have to go on from here (`require_settings`).
        notes: JSON-ready; what else is written.
        parts: callbacks with state of their own.
        writes: whether this process is the one of several that writes.

    Raises:
        CheckpointError: for numbers out of range; in ``fit``, if a checkpoint cannot be written,
            or the state is not finite.
    """

    def __init__(
        self,
        folder: Path,
        steps_per_epoch: int,
        *,
        every: int = 500,
        keep: int = 3,
        settings: Mapping[str, Any],
        notes: Mapping[str, Any] | None = None,
        parts: Sequence[Part] = (),
        writes: bool = True,
    ):
        super().__init__()
        if every < 1 or keep < 1:
            raise CheckpointError(
                f"checkpoints every {every} steps, {keep} kept: expected at least 1 and 1"
            )
        self.folder, self.steps_per_epoch = folder, steps_per_epoch
        self.every, self.keep = every, keep
        self.settings, self.notes = dict(settings), dict(notes or {})
        self.parts, self.writes = tuple(parts), writes
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Writes a checkpoint when it is time to, but at an epoch's end."""
        in_epoch = self.params.get("steps_before", 0) + batch + 1
        step = self._epoch * self.steps_per_epoch + in_epoch
        if in_epoch < self.steps_per_epoch and step % self.every == 0:
            self._write(step)

    def on_epoch_end(self, epoch, logs=None):
        """Writes a checkpoint, the epoch's validation and logs included."""
        self._write((epoch + 1) * self.steps_per_epoch)

    def _write(self, step):
        arrays = model_state(self.model)
        require_finite(arrays, step)
        if not self.writes:  # what is above is the same in every process, errors included
            return
        states = {}
        for part in self.parts:
            values = part.get_state()
            held = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
            arrays |= {f"parts/{part.name}/{k}": v for k, v in held.items()}
            states[part.name] = {k: v for k, v in values.items() if k not in held}
        metadata = {"step": step, "settings": self.settings, **self.notes, "parts": states}
        write_checkpoint(checkpoint_path(self.folder, step), arrays, metadata)
        remove_old(self.folder, self.keep)


def restore_parts(checkpoint: Checkpoint, parts: Sequence[Part]) -> None:
    """Puts the state of callbacks back; one that the checkpoint does not know starts anew."""
    for part in parts:
        values = checkpoint.metadata["parts"].get(part.name)
        if values is not None:
            start = f"parts/{part.name}/"
            held = {
                name.removeprefix(start): array
                for name, array in checkpoint.arrays.items()
                if name.startswith(start)
            }
            part.set_state({**values, **held})


def require_finite(arrays: Mapping[str, np.ndarray], step: int) -> None:
    """Raises `CheckpointError` naming the first array that has a value that is no number."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CheckpointError(
                f"step {step}: {name} has values that are not finite, and is not saved"
            )
