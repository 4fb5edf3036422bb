"""A training run from manifests: data, model, fit, and a record of what was done."""

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import keras

from asr_qat.data.augment import WaveAugment
from asr_qat.data.manifest import Utterance, read_manifest
from asr_qat.data.pipeline import make_dataset
from asr_qat.data.sounds import RecordedSounds
from asr_qat.data.tokenizer import Tokenizer
from asr_qat.models.configs import TransducerConfig
from asr_qat.models.transducer import Transducer
from asr_qat.training.checkpoint_files import FOLDER, newest_good
from asr_qat.training.dev_sample import DevSample, choose
from asr_qat.training.fit import TrainingConfig, fit, save
from asr_qat.training.history import by_name
from asr_qat.training.pruning import PruningConfig, sparsity_report
from asr_qat.training.workers import ALONE, Workers


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How utterances become batches."""

    batch_size: int = 32  # utterances
    bucket_seconds: tuple[float, ...] = (2.0, 4.0, 8.0)  # longest utterance of each bucket
    augment: WaveAugment | None = WaveAugment()
    max_bad_share: float = 0.02  # of recordings that cannot be read
    noise: tuple[str, ...] = ()  # manifests of recorded noise to add
    rooms: tuple[str, ...] = ()  # of impulse responses of rooms

    def sounds(self) -> RecordedSounds | None:
        """Noise and rooms to augment with; None where there are none."""
        if not self.noise and not self.rooms:
            return None
        read = (chain.from_iterable(map(read_manifest, m)) for m in (self.noise, self.rooms))
        noises, rooms = (list(rows) for rows in read)
        return RecordedSounds(noises, rooms, max_bad_share=self.max_bad_share)


def load_model(path: str | os.PathLike[str]) -> Transducer:
    """A saved transducer.

    Raises:
        ValueError: if there is no such file, or it holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; expected a .keras file written by `asr-qat train`")
    try:
        model = keras.models.load_model(path)
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise ValueError(f"{path}: not a Keras model of ours: {str(e).splitlines()[0]}") from e
    if not isinstance(model, Transducer):
        raise ValueError(f"{path}: holds a {type(model).__name__}, expected a Transducer")
    return model


def make_model(
    config: TransducerConfig, tokenizer: Tokenizer, precision: Any, init: str | None
) -> Transducer:
    """A new model, or one with the weights of a float checkpoint at the asked-for precision."""
    if init is None:
        return Transducer(config, tokenizer.get_config(), precision)
    model = load_model(init)
    if model.tokenizer_config["pieces"] != list(tokenizer.pieces):
        raise ValueError(
            f"{init}: its vocabulary has {len(model.tokenizer_config['pieces'])} labels that are "
            f"not the {len(tokenizer.pieces)} labels of the training texts"
        )
    return model.with_precision(precision)


def train_model(
    model: Transducer,
    train: Sequence[Utterance],
    tokenizer: Tokenizer,
    folder: str | os.PathLike[str],
    *,
    training: TrainingConfig,
    batches: BatchConfig,
    valid: Sequence[Utterance] = (),
    pruning: PruningConfig | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
    workers: Workers = ALONE,
) -> dict[str, Any]:
    """Trains the model and writes ``model.keras``, ``run.json`` and the logs into ``folder``.

    A run that was interrupted goes on from its last checkpoint when it is called again, and ends
    as it would have without the interruption, bit for bit.

    Several processes (``workers``) all call this, each with a model made in their scope from the
    same seed. The chief writes; to go on from a checkpoint, all must see its folder.

    Raises:
        ValueError: if the folder holds a finished run or the checkpoints of another one, the model
            cannot be pruned as asked for, or the run fails; see `asr_qat.training.fit.fit`.

    Returns:
        The record that ``run.json`` holds: data, sizes, seeds, losses, versions, commit.
    """
    folder = Path(folder)
    finished = (folder / "model.keras").exists()
    checkpoint = None if finished else newest_good(folder / FOLDER)
    step = 0 if checkpoint is None else checkpoint.metadata["step"]
    workers.require_same(
        f"{folder}: step to begin at (-1: the run is finished)",
        -1 if finished else step,
        "a folder that all processes share",
    )
    if finished:
        raise ValueError(f"{folder}: holds a finished run; expected a new or an interrupted one")
    common: dict[str, Any] = {
        "batch_size": batches.batch_size,
        "bucket_seconds": batches.bucket_seconds,
        "max_bad_share": batches.max_bad_share,
        "max_symbols_per_frame": model.config.max_symbols_per_frame,
        "frame_samples": model.frame_samples,
        "ends": [end.target() for end in model.ends],
        "seed": training.seed,
        "pad_second": False,
    }
    data = make_dataset(
        train,
        tokenizer,
        epochs=None,
        shuffle=True,
        augment=batches.augment,
        sounds=batches.sounds(),
        start_step=step,
        process_index=workers.process_index,
        process_count=workers.process_count,
        **common,
    )
    # Keras on JAX may look for a batch beyond the last one, before it begins anew in each epoch.
    rounds = 1 if keras.backend.backend() == "tensorflow" else None
    held_out = (
        make_dataset(valid, tokenizer, epochs=rounds, shuffle=False, **common) if valid else None
    )
    chosen = choose(valid, training.dev_utterances, batches.bucket_seconds[-1])
    steps = data.steps_per_epoch * training.epochs
    notes = {
        "commit": commit(),
        "utterances": len(train),
        "hours": round(sum(u.duration for u in train) / 3600, 3),
        "steps": steps,
        "steps_per_epoch": data.steps_per_epoch,
        "training": dataclasses.asdict(training),
        "policy": model.policy.to_list(),
        "bfloat16": model.in_bfloat16,
        "teacher": model.teacher and model.teacher.document(),
        "keras": keras.__version__,
        "processes": workers.process_count,
        "machine": platform.processor() or platform.machine(),
    }
    speed, history = fit(
        model,
        data,
        training,
        folder,
        checkpoint=checkpoint,
        settings={
            **data_settings(train, batches, training.seed),
            **model_settings(model),
        },
        notes=notes,
        valid=held_out,
        sample=DevSample(chosen, tokenizer) if chosen else None,
        callbacks=[*callbacks, *([] if pruning is None else [pruning.callback(steps)])],
        verbose=verbose,
        workers=workers,
    )
    record = {
        **notes,
        "batches": dataclasses.asdict(batches),
        "pruning": pruning and {**dataclasses.asdict(pruning), **sparsity_report(model).document()},
        "history": by_name(history.rows),
        "backend": keras.backend.backend(),
        "trained_hours": round(speed.total_hours, 3),
        "trained_seconds": round(speed.total_seconds, 1),
    }
    if workers.is_chief:
        temporary = folder / "run.json.partial"
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(temporary, folder / "run.json")
        with workers.apart():
            save(model, folder / "model.keras")  # last: it says that the run is finished
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
    workers.wait()  # what comes next in the others may read the model
    return record


def data_settings(train: Sequence[Utterance], batches: BatchConfig, seed: int) -> dict[str, Any]:
    """What a run must have in common with another to go on from its checkpoints, JSON-ready."""
    corpus = hashlib.sha256()
    for utterance in train:
        corpus.update(f"{utterance.id}\t{utterance.duration}\t{utterance.text}\n".encode())
    described: dict[str, Any] = {
        "utterances": len(train),
        "digest of the utterances": corpus.hexdigest()[:16],
        "backend": keras.backend.backend(),
        "seed": seed,
        **dataclasses.asdict(batches),
    }
    del described["max_bad_share"]  # which may be raised to go on
    return json.loads(json.dumps(described))


def model_settings(model: Transducer) -> dict[str, Any]:
    """The same of a model, beyond the shapes of its weights: precision, dropout, loss and so on."""
    described = {
        **{f"model {name}": value for name, value in model.config.to_dict().items()},
        "precision": model.policy.to_list(),
        "bfloat16": model.in_bfloat16,
        "teacher": model.teacher and model.teacher.document(),
    }
    return json.loads(json.dumps(described))


def commit() -> str | None:
    """The git commit of the working directory; None outside a repository."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
