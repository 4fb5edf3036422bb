"""The study's training runs: a float model for each seed, and what goes on from it."""

import dataclasses
from pathlib import Path

import keras
from fake_quant import fake_quantize
from grid import Run
from task import Task

from asr_qat.models.distillation import Teacher
from asr_qat.training.run import load_model, make_model, train_model


def train_base(task: Task, folder: Path, seed: int) -> Path:
    """The float model of a seed, kept in ``folder`` and not trained again.

    Args:
        task: what it recognises.
        folder: gets a folder for each of the task's stages.
        seed: of all stages.

    Returns:
        The path of the last stage's model.
    """
    init = None
    for stage in task.stages:
        done = folder / stage.name / "model.keras"
        if not done.exists():
            keras.utils.set_random_seed(seed)
            model = make_model(task.configuration, task.tokenizer, None, init)
            _train(model, task, done.parent, stage.utterances, stage.training, seed)
        init = str(done)
    return done


def train_run(run: Run, task: Task, base: Path, folder: Path, seed: int) -> Path:
    """A run of the grid, kept in ``folder`` and not done again; interrupted, it goes on."""
    done = folder / "model.keras"
    if not done.exists():
        keras.utils.set_random_seed(seed)
        model = make_model(task.configuration, task.tokenizer, run.precision, str(base))
        if run.method == "fake_quant":
            fake_quantize(model)
        if run.taught:
            model.learn_from(Teacher(load_model(base)))
        steps = task.further.epochs * (len(task.train) // task.batches.batch_size)
        training = dataclasses.replace(task.further, quantize_from=round(run.quantize_from * steps))
        _train(model, task, folder, task.train, training, seed)
    return done


def _train(model, task, folder, utterances, training, seed):
    train_model(
        model,
        utterances,
        task.tokenizer,
        folder,
        training=dataclasses.replace(training, seed=seed),
        batches=task.batches,
        verbose=2,
    )
