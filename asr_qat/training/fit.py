"""One training run: optimizer, checkpoints, logs; plain Keras ``fit`` inside."""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from asr_qat.data.pipeline import SpeechDataset
from asr_qat.data.plan import DataError
from asr_qat.models.transducer import Transducer
from asr_qat.training.averaging import AverageWeights, EvaluateAverages
from asr_qat.training.board import Board
from asr_qat.training.checkpoint_files import FOLDER, Checkpoint, CheckpointError
from asr_qat.training.checkpoints import Checkpoints, Resume, require_settings
from asr_qat.training.delay import DelayedQuantization
from asr_qat.training.dev_sample import DevSample
from asr_qat.training.feed import Feed
from asr_qat.training.history import History
from asr_qat.training.monitor import Speed, StopOnNotFinite, last_good, loss_memory
from asr_qat.training.schedules import WarmupInverseSqrt, warmup_cosine
from asr_qat.training.workers import ALONE, SameWeights, Workers

SCHEDULES = ("cosine", "inverse_sqrt")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Raises:
        ValueError: for settings out of range, or that exclude each other.
    """

    epochs: int = 20
    learning_rate: float = 1.5e-3  # at its peak
    schedule: str = "cosine"  # to zero at the end; or "inverse_sqrt", which knows no end
    warmup_steps: int = 200  # of linear rise; with "cosine", at most a quarter of the run
    weight_decay: float = 1e-3
    clip_norm: float = 5.0  # of the whole gradient; 0: not clipped
    ema_momentum: float = (
        0.0  # share of the moving average of the weights that a step leaves; 0: off
    )
    accumulate_steps: int = 1  # steps whose gradients are averaged for one update
    average_last: int = (
        0  # epochs whose weights are averaged in the end; 0: the last one's are taken
    )
    checkpoint_steps: int = 500  # between checkpoints; there is one after each epoch, too
    keep_checkpoints: int = 3  # newest that stay on the disk
    quantize_from: int = 0  # steps before the recipe begins; until then layers multiply floats
    dev_utterances: int = 64  # held out, transcribed after each epoch; 0: none
    jit_compile: bool = True  # by XLA; without it, short runs of small models begin sooner
    seed: int = 0

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r}: expected one of {', '.join(SCHEDULES)}")
        if not 0 <= self.ema_momentum < 1:
            raise ValueError(f"ema_momentum: received {self.ema_momentum}, expected 0 to below 1")
        least = {"epochs": 1, "accumulate_steps": 1, "checkpoint_steps": 1, "keep_checkpoints": 1}
        least |= {
            "quantize_from": 0,
            "warmup_steps": 1,
            "average_last": 0,
            "dev_utterances": 0,
            "clip_norm": 0,
        }
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(
                    f"{name}: received {getattr(self, name)}, expected at least {minimum}"
                )
        if self.average_last > self.epochs:
            raise ValueError(
                f"mean of the weights of the last {self.average_last} epochs: the run has "
                f"{self.epochs}"
            )
        if self.ema_momentum and self.average_last:
            raise ValueError(
                f"a moving average of the weights (momentum {self.ema_momentum}) and the mean of "
                f"the last {self.average_last} epochs: expected one of them"
            )


def make_optimizer(config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    """AdamW for a run of ``steps`` steps."""
    # Keras' schedules count steps, also those whose gradients are only accumulated.
    if config.schedule == "inverse_sqrt":
        schedule = WarmupInverseSqrt(config.learning_rate, config.warmup_steps)
    else:
        warmup = min(config.warmup_steps, max(1, steps // 4))
        schedule = warmup_cosine(config.learning_rate, warmup, steps)
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm or None,
        use_ema=bool(config.ema_momentum),
        ema_momentum=config.ema_momentum or 0.99,
        gradient_accumulation_steps=config.accumulate_steps
        if config.accumulate_steps > 1
        else None,
        name="optimizer",  # not numbered, because checkpoints hold its variables by name
    )
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "table", "positions", "clip"]
    )
    return optimizer


def fit(
    model: Transducer,
    train: SpeechDataset,
    config: TrainingConfig,
    folder: str | os.PathLike[str],
    *,
    checkpoint: Checkpoint | None = None,
    settings: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
    valid: SpeechDataset | None = None,
    sample: DevSample | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
    workers: Workers = ALONE,
) -> tuple[Speed, History]:
    """Trains; writes ``checkpoints/``, ``history.csv`` and TensorBoard's ``logs/`` as it goes.

    Args:
        model: compiled here, with XLA.
        train: endless batches, from step ``checkpoint.metadata["step"]`` on, made with
            ``pad_second=False``.
        config: how to train.
        folder: made if missing.
        checkpoint: to go on from, also in the middle of an epoch.
        settings: JSON-ready; a checkpoint of a run with other ones is refused.
        notes: JSON-ready; written into the checkpoints for who reads them.
        valid: batches of one epoch for the validation loss, made with ``pad_second=False``.
        sample: what is transcribed after each epoch.
        callbacks: further Keras callbacks, such as `asr_qat.training.pruning.Pruning`; what they
            add to an epoch's logs is written too.
        verbose: as in Keras.
        workers: the processes that train the model, each with its part of `train`; the model was
            made in their scope. Only the chief writes.

    Raises:
        CheckpointError: if a checkpoint cannot be written, or is of another run.
        NotFiniteError: at a loss that is no number.
        ValueError: if the data fail.

    Returns:
        How fast it went, with totals of the whole run, and the values of its epochs.
    """
    folder = Path(folder)
    if workers.is_chief:
        folder.mkdir(parents=True, exist_ok=True)
    else:
        verbose = 0
    settings = dict(settings or {})
    epoch_steps = train.steps_per_epoch
    steps = epoch_steps * config.epochs
    if checkpoint is not None:
        require_settings(checkpoint, settings)
        if checkpoint.metadata["step"] > steps:
            raise CheckpointError(
                f"{checkpoint.path}: step {checkpoint.metadata['step']} is done, and the run has "
                f"{steps}; expected more epochs"
            )
    optimizer = make_optimizer(config, steps)
    model.compile(optimizer=optimizer, jit_compile=config.jit_compile)
    workers.prepare(model)
    optimizer.build(model.trainable_variables)  # for the state in a checkpoint
    stream = None if verbose == 0 else sys.stderr
    speed = Speed(train.source, stream, below_bar=verbose in ("auto", 1))
    history = History(folder / "history.csv" if workers.is_chief else None)
    average = AverageWeights(config.average_last, config.epochs) if config.average_last else None
    parts = [each for each in (speed, history, average) if each is not None]
    resume = Resume(checkpoint, epoch_steps, parts)
    ordered = [
        resume,
        SameWeights(workers) if workers.process_count > 1 else None,
        StopOnNotFinite(epoch_steps, folder / FOLDER),
        speed,
        average,
        DelayedQuantization(config.quantize_from) if config.quantize_from else None,
        EvaluateAverages() if config.ema_momentum else None,
        *callbacks,
        sample,
        Board(folder / "logs", sample) if workers.is_chief else None,
        history,
        Checkpoints(
            folder / FOLDER,
            epoch_steps,
            every=config.checkpoint_steps,
            keep=config.keep_checkpoints,
            settings=settings,
            notes=notes,
            parts=parts,
            writes=workers.is_chief,
        ),
    ]
    if checkpoint is not None and verbose != 0:
        print(f"goes on from step {resume.step} of {steps} ({checkpoint.path})", file=sys.stderr)
    if verbose != 0:
        print(loss_memory(model, train.source), file=sys.stderr)
    feeds = [Feed(each) for each in (train, valid) if each is not None]
    try:
        model.fit(
            feeds[0].batches,
            epochs=config.epochs,
            initial_epoch=resume.epoch,
            steps_per_epoch=epoch_steps,
            validation_data=None if valid is None else feeds[1].batches,
            validation_steps=None if valid is None else valid.steps_per_epoch,
            shuffle=False,  # the pipeline has shuffled
            callbacks=[each for each in ordered if each is not None],
            verbose=verbose,
        )
    except Exception as error:
        cause = next((feed.error for feed in feeds if feed.error is not None), None)
        if cause is None and isinstance(error, DataError):  # on JAX nothing hides it
            cause = error
        if cause is None and isinstance(error, workers.lost):
            reason = " ".join(str(error).split())[-500:]
            raise ValueError(
                f"process {workers.process_index} of {workers.process_count}: another one has "
                f"ended or cannot be reached; when all are started again, "
                f"{last_good(folder / FOLDER)}. What was said: {reason}"
            ) from error
        if cause is None:
            raise
        raise ValueError(f"{cause}; {last_good(folder / FOLDER)}") from error
    return speed, history


def save(model: keras.Model, path: Path) -> None:
    """Saves under a temporary name beside the target, then renames.

    Raises:
        ValueError: if the disk is full or not writable.
    """
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        model.save(temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ValueError(
            f"{path}: cannot be written: {error.strerror or error}; "
            f"{last_good(path.parent / FOLDER)}"
        ) from error
