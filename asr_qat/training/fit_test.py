"""Runs that are interrupted at each step, on both backends, must end as if they had not been."""

import dataclasses
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from asr_qat.data.augment import WaveAugment
from asr_qat.data.corpus import finish_corpus, plan_corpus, write_shard
from asr_qat.data.pipeline import make_dataset
from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.training.checkpoint_files import FOLDER, CheckpointError, checkpoint_paths, newest_good
from asr_qat.training.fit import TrainingConfig, fit, make_optimizer, save
from asr_qat.training.history import read_history
from asr_qat.training.monitor import NotFiniteError
from asr_qat.training.pruning import Pruning, PruningError
from asr_qat.training.testing import TinyModel, noise_corpus

STEPS = 5  # of an epoch: 10 recordings, two buckets
CONFIG = TrainingConfig(
    epochs=3,
    learning_rate=0.01,
    warmup_steps=2,
    checkpoint_steps=1,
    jit_compile=keras.backend.backend() == "jax",  # where nothing is slower without
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return noise_corpus(tmp_path_factory.mktemp("corpus"), 10, (0.4, 1.2))


class Interrupted(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Ends a run after so many steps of its process."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:  # after the checkpoint of the step before
            raise Interrupted


def data(corpus, step=0, buckets=(0.8, 1.3), **kwargs):
    options = {"epochs": None, "shuffle": True, "augment": WaveAugment(), "start_step": step}
    tokenizer = CharacterTokenizer("ab ")
    return make_dataset(
        corpus,
        tokenizer,
        batch_size=2,
        bucket_seconds=buckets,
        pad_second=False,
        **{**options, **kwargs},
    )


def run(corpus, folder, config=CONFIG, *callbacks, precision="float32", prune=False, **kwargs):
    keras.utils.set_random_seed(0)
    model, checkpoint = TinyModel(precision), newest_good(folder / FOLDER)
    pruning = [Pruning(0.5, 2, 12, every=3)] if prune else []
    train = data(corpus, 0 if checkpoint is None else checkpoint.metadata["step"])
    assert train.steps_per_epoch == STEPS
    fit(
        model,
        train,
        config,
        folder,
        checkpoint=checkpoint,
        valid=data(corpus[:3], epochs=1, shuffle=False, augment=None),
        callbacks=[*callbacks, *pruning],
        verbose=0,
        **kwargs,
    )
    return [keras.ops.convert_to_numpy(w) for w in model.weights]


def history(folder):
    timed = ("step_ms", "audio_h_per_h")
    return {k: v for k, v in read_history(folder / "history.csv").items() if k not in timed}


VARIANTS: dict[str, dict[str, Any]] = {
    "moving average": {"ema_momentum": 0.9, "accumulate_steps": 3},
    "mean of epochs": {"average_last": 2, "schedule": "inverse_sqrt"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_interrupted_again_and_again_ends_as_one_that_was_not(
    corpus, tmp_path, variant, caplog
):
    config, parts = dataclasses.replace(CONFIG, **VARIANTS[variant]), tmp_path / "parts"
    whole = run(corpus, tmp_path / "whole", config, prune=True)
    with pytest.raises(Interrupted):
        run(corpus, parts, config, Interrupt(2), prune=True)
    with pytest.raises(PruningError, match="run ends at step 10, .* reached at step 12"):
        run(corpus, parts, dataclasses.replace(config, epochs=2), prune=True)
    # To steps 3, 8 (past an epoch's end) and 12; JAX compiles in each.
    for steps in (1, 5, 4) if keras.backend.backend() == "tensorflow" else (10,):
        with pytest.raises(Interrupted):
            run(corpus, parts, config, Interrupt(steps), prune=True)
    with pytest.raises(CheckpointError, match="step 12 is done, and the run has 10; expected more"):
        run(corpus, parts, dataclasses.replace(config, epochs=2), prune=True)
    newest = checkpoint_paths(parts / FOLDER)[-1]
    assert newest.name == "step-000000012.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 3] ^= 1
    newest.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        resumed = run(corpus, parts, config, prune=True)
    assert f"{newest}: " in caplog.text and "going back" in caplog.text
    for ours, theirs in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert history(parts) == history(tmp_path / "whole")
    assert len(history(parts)["loss"]) == 3
    assert (whole[0] == 0).mean() == 0.5
    # The last checkpoint is that of the end, before the averages went into the model.
    for ours, theirs in zip(whole, run(corpus, parts, config, prune=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_same_on_jax(tmp_path):
    if keras.backend.backend() == "jax":
        pytest.skip("this is that test")
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
        + ["-k", "again_and_again and moving", f"--basetemp={tmp_path}"],
        # Most of the time would be XLA's.
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "1 passed" in done.stdout


class Poison(keras.callbacks.Callback):
    """Makes a weight no number after a step, as a step that was too large does."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        self.step -= 1
        if self.step == 0:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            kernel = self.model.first.kernel
            kernel.assign(np.full(kernel.shape, np.nan, "float32"))


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(corpus, tmp_path):
    message = r"step 8: the loss is nan.* goes on from step 7 \(.*step-000000007.npz\).*--clip-norm"
    with pytest.raises(NotFiniteError, match=message):
        run(corpus, tmp_path, CONFIG, Poison(8))
    assert checkpoint_paths(tmp_path / FOLDER)[-1].name == "step-000000007.npz"
    slower = dataclasses.replace(CONFIG, learning_rate=0.001)
    assert all(np.isfinite(w).all() for w in run(corpus, tmp_path, slower))


class FullDisk(keras.callbacks.Callback):
    """Lets the system refuse to write more than some bytes into a file, from a step on."""

    def __init__(self, step, size):
        super().__init__()
        self.step, self.size = step, size

    def on_train_batch_end(self, batch, logs=None):
        self.step -= 1
        if self.step == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


def test_a_full_disk_ends_the_run_and_what_was_written_is_intact(corpus, tmp_path):
    try:
        with pytest.raises(CheckpointError) as error:
            run(corpus, tmp_path, CONFIG, FullDisk(4, 2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "step-000000004.npz: the checkpoint cannot be written: File too large" in str(
        error.value
    )
    assert "that of step 3 is intact" in str(error.value)
    assert "free some space, then give the same command again" in str(error.value)
    assert [path.name for path in sorted((tmp_path / FOLDER).iterdir())] == [
        f"step-00000000{i}.npz" for i in (1, 2, 3)
    ]


def test_a_full_disk_leaves_no_half_a_model(tmp_path):
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        with pytest.raises(ValueError, match=r"model\.keras: cannot be written: File too large; "):
            save(
                keras.Sequential([keras.Input((8,)), keras.layers.Dense(99)]),
                tmp_path / "model.keras",
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert list(tmp_path.iterdir()) == []


class Vanish(keras.callbacks.Callback):
    """Takes the recordings away after the first step."""

    def __init__(self, corpus):
        super().__init__()
        self.corpus = corpus

    def on_train_batch_end(self, batch, logs=None):
        for utterance in self.corpus:
            Path(str(utterance.audio_filepath).partition("#")[0]).unlink(missing_ok=True)


def fit_until_they_vanish(corpus, folder, message):
    train, callbacks = data(corpus, cache_bytes=0), [Vanish(corpus)]
    with pytest.raises(ValueError, match=message):
        fit(TinyModel(), train, CONFIG, folder, callbacks=callbacks, verbose=0)


def test_recordings_that_vanish_are_named(tmp_path):
    corpus = noise_corpus(tmp_path, 40, (0.4, 1.2))
    message = r"(?s)recordings cannot be read.*wav.*; the same command goes on from step \d+"
    fit_until_they_vanish(corpus, tmp_path / "run", message)


def test_a_shard_that_vanishes_is_named(tmp_path):
    recordings = noise_corpus(tmp_path, 40, (0.4, 1.2))
    for task in plan_corpus(recordings, tmp_path / "shards", "all", shards=4):
        write_shard(task)
    corpus = finish_corpus(tmp_path / "shards", "all", shards=4, max_bad_share=0.0).utterances
    message = r"all-0000\d-of-00004\.array_record.*; the same command goes on from step \d+"
    fit_until_they_vanish(corpus, tmp_path / "run", message)


def test_checkpoints_of_another_run_are_refused(corpus, tmp_path):
    with pytest.raises(Interrupted):
        run(corpus, tmp_path, CONFIG, Interrupt(2), settings={"seed": 1})
    with pytest.raises(CheckpointError, match="this run has seed 1, received 2; expected"):
        run(corpus, tmp_path, settings={"seed": 2})
    config = dataclasses.replace(CONFIG, ema_momentum=0.9)
    with pytest.raises(CheckpointError, match="optimizer/.*average is in the model alone"):
        run(corpus, tmp_path, config, settings={"seed": 1})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"schedule": "linear"}, "'linear': expected one of cosine, inverse_sqrt"),
        ({"ema_momentum": 1.0}, "received 1.0, expected 0 to below 1"),
        ({"ema_momentum": 0.9, "average_last": 2}, "expected one of them"),
        ({"epochs": 2, "average_last": 3}, "the last 3 epochs: the run has 2"),
        ({"accumulate_steps": 0}, "accumulate_steps: received 0, expected at least 1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**settings)


def test_options_of_the_optimizer():
    config = TrainingConfig(learning_rate=1.0, warmup_steps=10, accumulate_steps=4, clip_norm=0)
    optimizer = make_optimizer(config, 1000)
    rates = [float(optimizer._learning_rate(step)) for step in (10, 505, 999)]
    assert rates == [pytest.approx(1.0), pytest.approx(0.5, 0.01), pytest.approx(0.01, 0.01)]
    assert optimizer.gradient_accumulation_steps == 4 and optimizer.global_clipnorm is None
