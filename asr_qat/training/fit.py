"""One training run: schedule, checkpoints, logs; plain Keras ``fit`` inside."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from asr_qat.models.transducer import Transducer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained."""

    epochs: int = 20
    learning_rate: float = 1.5e-3  # at its peak
    warmup_steps: int = 200  # steps of linear rise; a cosine to zero follows
    weight_decay: float = 1e-3
    clip_norm: float = 5.0  # of the whole gradient
    seed: int = 0


def make_optimizer(config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    """AdamW with linear warm-up and cosine decay over ``steps`` steps."""
    warmup = min(config.warmup_steps, max(1, steps // 4))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=config.learning_rate / warmup,
        decay_steps=max(1, steps - warmup),
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "table", "positions"])
    return optimizer


class StopOnNotFinite(keras.callbacks.Callback):
    """Ends the run with an error as soon as the loss is no number."""

    def on_train_batch_end(self, batch, logs=None):
        """Raises `ValueError` if the mean loss of the epoch is not finite."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise ValueError(f"step {batch} of the epoch: the loss is {loss}, expected a number")


def resume_epoch(folder: Path) -> int:
    """The epoch that an interrupted run in ``folder`` goes on with; 0 for a new run."""
    state = folder / "backup" / "training_metadata.json"
    if not state.exists():
        return 0
    return int(json.loads(state.read_text())["epoch"])


def fit(
    model: Transducer,
    train: Any,
    config: TrainingConfig,
    folder: str | os.PathLike[str],
    *,
    steps_per_epoch: int,
    valid: Any = None,
    valid_steps: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
) -> None:
    """Trains, and writes ``history.csv`` as it goes and ``model.keras`` at the end.

    Every epoch is checkpointed in ``backup/``; a run that was interrupted goes on from there
    (``train`` must then start at that epoch: see `resume_epoch`). TensorBoard logs are in
    ``logs/``.

    Args:
        model: compiled here, with XLA.
        train: batches, endless or enough of them.
        config: how to train.
        folder: made if missing.
        steps_per_epoch: batches of an epoch.
        valid: batches for the validation loss, or None.
        valid_steps: how many of them.
        callbacks: further Keras callbacks, such as `asr_qat.training.pruning.Pruning`; what they
            add to an epoch's logs is written too.
        verbose: as in Keras.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    steps = steps_per_epoch * config.epochs
    model.compile(optimizer=make_optimizer(config, steps), jit_compile=True)
    model.fit(
        train,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=valid,
        validation_steps=valid_steps,
        shuffle=False,  # the pipeline has shuffled
        callbacks=[
            StopOnNotFinite(),
            keras.callbacks.BackupAndRestore(folder / "backup", delete_checkpoint=False),
            *callbacks,
            keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
            keras.callbacks.CSVLogger(folder / "history.csv", append=True),
        ],
        verbose=verbose,
    )
    save(model, folder / "model.keras")


def save(model: keras.Model, path: Path) -> None:
    """Saves under a temporary name beside the target, then renames."""
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    model.save(temporary)
    os.replace(temporary, path)
