"""Training that is killed again and again must end as if it had not been.

    python -m asr_qat.training.survival_testing OUT '{"epochs": 3}'

trains a small model with all that makes a step random (dropout, SpecAugment, waveforms changed at
random, a new order each epoch) on a corpus of noise that it makes itself, and prints a line after
each step. `run_with_kills` kills that process, `result` says what a run ended with.
`benchmarks/kills.py` and a test use both.
"""

import dataclasses
import hashlib
import json
import random
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from asr_qat.training.checkpoint_files import (
    FOLDER,
    CheckpointError,
    checkpoint_paths,
    newest_good,
    read_checkpoint,
    step_of,
)
from asr_qat.training.compile_cache import use_compile_cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurvivalConfig:
    """The run that is killed."""

    recipe: str = "dynamic_wi4_afp32"
    utterances: int = 24
    epochs: int = 10
    batch_size: int = 2
    checkpoint_steps: int = 3
    ema_momentum: float = 0.9
    accumulate_steps: int = 1
    average_last: int = 0
    sparsity: float = 0.0  # pruning, if above 0
    whole: bool = True  # two batch shapes, validation and a WER sample
    jit_compile: bool = True
    compile_cache: str = ""  # folder; "": each process compiles anew


def train(out: Path, config: SurvivalConfig) -> None:
    """Trains, or goes on; leaves OUT/model.keras and OUT/history.csv."""
    if config.compile_cache:
        use_compile_cache(config.compile_cache)
    import keras

    from asr_qat.data.augment import WaveAugment
    from asr_qat.data.tokenizer import CharacterTokenizer
    from asr_qat.models.presets import preset
    from asr_qat.training.fit import TrainingConfig
    from asr_qat.training.pruning import PruningConfig
    from asr_qat.training.run import BatchConfig, make_model, train_model
    from asr_qat.training.testing import noise_corpus

    class Report(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            print("step", flush=True)

    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    corpus = noise_corpus(out, config.utterances, (0.4, 1.2))
    tokenizer = CharacterTokenizer.from_texts([u.text for u in corpus])
    train_model(
        make_model(preset("nano"), tokenizer, config.recipe, None),
        corpus,
        tokenizer,
        out,
        training=TrainingConfig(
            epochs=config.epochs,
            learning_rate=1e-3,
            warmup_steps=5,
            checkpoint_steps=config.checkpoint_steps,
            ema_momentum=config.ema_momentum,
            accumulate_steps=config.accumulate_steps,
            average_last=config.average_last,
            jit_compile=config.jit_compile,
            dev_utterances=4 if config.whole else 0,
        ),
        batches=BatchConfig(
            batch_size=config.batch_size,
            bucket_seconds=(0.8, 1.3) if config.whole else (1.3,),
            augment=WaveAugment(),
        ),
        valid=corpus[:4] if config.whole else (),
        pruning=PruningConfig(sparsity=config.sparsity, every=2) if config.sparsity else None,
        callbacks=[Report()],
        verbose=0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kill:
    """What was found after one SIGKILL."""

    after_s: float  # since the process began
    steps: int  # that this process had done
    checkpoint: int  # step of the newest good one; 0: none yet
    unreadable: int  # checkpoints that do not verify
    half_written: int  # files that are not under a checkpoint's name


def run_with_kills(out: Path, config: SurvivalConfig, kills: int, seed: int = 0) -> list[Kill]:
    """Begins a run, kills it so many times, and then lets it end.

    Each kill comes at random after 1 to 8 steps of its process, and at random within a step (and
    what follows it: a checkpoint, the validation); one of five before the end of the first step.

    Raises:
        ValueError: if the run fails, or ends before the last kill.
    """
    moments = random.Random(seed)
    done: list[Kill] = []
    while len(done) < kills:
        steps = 0 if moments.random() < 0.2 else moments.randint(1, 8)
        delay = moments.uniform(0.0, 12.0) if steps == 0 else moments.uniform(0.0, 0.15)
        done.append(_killed(out, config, steps, delay))
    run(out, config)
    return done


def run(out: Path, config: SurvivalConfig) -> None:
    """A run in a process of its own, until its end; `ValueError` if it fails."""
    process = _start(out, config)
    process.communicate()
    if process.returncode:
        raise ValueError(f"{out}: the run failed:\n{(out / 'stderr.txt').read_text()[-2000:]}")


def result(out: Path) -> dict[str, Any]:
    """What a finished run ended with: digests of its weights, and its history."""
    import keras

    from asr_qat.training.run import load_model

    model, weights = load_model(out / "model.keras"), hashlib.sha256()
    for variable in model.weights:
        weights.update(keras.ops.convert_to_numpy(variable).tobytes())
    record = json.loads((out / "run.json").read_text())
    timed = ("step_ms", "audio_h_per_h")
    history = {name: v for name, v in record["history"].items() if name not in timed}
    return {"weights": weights.hexdigest(), "history": history}


def _start(out, config):
    out.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(dataclasses.asdict(config))
    command = [sys.executable, "-m", "asr_qat.training.survival_testing", str(out), settings]
    with (out / "stderr.txt").open("w") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)


def _killed(out, config, steps, delay):
    began = time.perf_counter()
    process = _start(out, config)
    lines = 0
    while lines < steps and process.stdout.readline():
        lines += 1
    if steps:
        time.sleep(delay)
    else:
        select.select([process.stdout], [], [], delay)
    process.kill()  # SIGKILL
    lines += len(process.stdout.readlines())
    process.wait()
    if process.returncode != -9:
        raise ValueError(
            f"{out}: the run ended with exit code {process.returncode} before it was killed:\n"
            f"{(out / 'stderr.txt').read_text()[-2000:]}"
        )
    folder, unreadable = out / FOLDER, 0
    for path in checkpoint_paths(folder):
        try:
            read_checkpoint(path)
        except CheckpointError:
            unreadable += 1
    newest = newest_good(folder)
    return Kill(
        after_s=round(time.perf_counter() - began, 2),
        steps=lines,
        checkpoint=0 if newest is None else step_of(newest.path),
        unreadable=unreadable,
        half_written=len(list(folder.glob(".*"))) if folder.is_dir() else 0,
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]), SurvivalConfig(**json.loads(sys.argv[2])))
