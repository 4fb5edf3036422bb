"""A small run by one process or several on this machine, to compare what they come to.

    KERAS_BACKEND=jax python -m asr_qat.training.worker_testing OUT CORPUS '{"epochs": 2}'

is one of the processes; the environment says which, as for any training. `run` starts all of them.
Without dropout and SpecAugment (unless asked for), which give each process masks of its own; the
waveforms are changed at random, which the pipeline does alike for every number of processes.
`benchmarks/two_workers.py` and a test use this.
"""

import dataclasses
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerRun:
    """What is trained."""

    recipe: str = "float32"
    utterances: int = 16
    batch_size: int = 4  # of all processes together
    epochs: int = 2
    learning_rate: float = 1e-3
    clip_norm: float = 5.0
    ema_momentum: float = 0.0
    accumulate_steps: int = 1
    sparsity: float = 0.0
    checkpoint_steps: int = 100
    valid: bool = False  # validation loss and a WER sample
    dropout: bool = False  # and SpecAugment
    jit_compile: bool = True
    kill_after: int = 0  # steps, then processes kill themselves; 0: never
    killed: tuple[int, ...] = (0, 1)  # which of them
    begin: dict[str, int] = dataclasses.field(default_factory=dict)  # seed of a process


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one process printed."""

    code: int  # -9: it was killed
    losses: list[float]  # Keras' mean over the epoch so far, after each step
    weights: str  # digest of all weights; empty if it did not get that far
    errors: str  # the end of stderr
    seconds: float


def train(out: Path, corpus_folder: Path, config: WorkerRun) -> None:
    """Trains as one of the processes that the environment names."""
    import keras

    from asr_qat.training.distribution import workers_from_environment

    workers = workers_from_environment()
    from asr_qat.data.augment import WaveAugment
    from asr_qat.data.tokenizer import CharacterTokenizer
    from asr_qat.models.configs import SpecAugmentConfig
    from asr_qat.models.presets import preset
    from asr_qat.training.fit import TrainingConfig
    from asr_qat.training.pruning import PruningConfig
    from asr_qat.training.run import BatchConfig, make_model, train_model
    from asr_qat.training.testing import noise_corpus

    class Report(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.steps = 0

        def on_train_batch_end(self, batch, logs=None):
            print(json.dumps({"loss": float(logs["loss"])}), flush=True)
            self.steps += 1
            if self.steps == config.kill_after and workers.process_index in config.killed:
                time.sleep(0.5)  # until the others have this step, too
                os.kill(os.getpid(), 9)

    corpus_folder = corpus_folder / str(workers.process_index)
    corpus_folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(config.begin.get(str(workers.process_index), 0))
    corpus = noise_corpus(corpus_folder, config.utterances, (0.5, 0.8))
    tokenizer = CharacterTokenizer.from_texts([u.text for u in corpus])
    sizes = preset("nano")
    if not config.dropout:
        still = SpecAugmentConfig(time_masks=0, frequency_masks=0)
        encoder = dataclasses.replace(sizes.encoder, dropout=0.0)
        sizes = dataclasses.replace(sizes, encoder=encoder, spec_augment=still)
    with workers.scope():
        model = make_model(sizes, tokenizer, config.recipe, None)
        train_model(
            model,
            corpus,
            tokenizer,
            out,
            training=TrainingConfig(
                epochs=config.epochs,
                learning_rate=config.learning_rate,
                warmup_steps=2,
                clip_norm=config.clip_norm,
                ema_momentum=config.ema_momentum,
                accumulate_steps=config.accumulate_steps,
                checkpoint_steps=config.checkpoint_steps,
                jit_compile=config.jit_compile,
                dev_utterances=4 if config.valid else 0,
            ),
            batches=BatchConfig(
                batch_size=config.batch_size, bucket_seconds=(1.0,), augment=WaveAugment()
            ),
            valid=corpus[:3] if config.valid else (),
            pruning=PruningConfig(sparsity=config.sparsity, every=2) if config.sparsity else None,
            callbacks=[Report()],
            verbose=2,
            workers=workers,
        )
        content = hashlib.sha256()
        for variable in model.weights:
            content.update(keras.ops.convert_to_numpy(variable).tobytes())
    print(json.dumps({"weights": content.hexdigest()}), flush=True)


def run(
    out: Path,
    corpus: Path,
    config: WorkerRun,
    backend: str,
    processes: int = 1,
    *,
    outs: dict[int, Path] | None = None,
    timeout: float = 300.0,
) -> list[Outcome]:
    """A run by so many processes on this machine; waits for all of them.

    Args:
        out: of the run.
        corpus: folder for its recordings, which are made if missing.
        config: of the run.
        backend: ``"tensorflow"`` or ``"jax"``.
        processes: how many.
        outs: other folders, for some of the processes.
        timeout: seconds, after which those that are left are killed.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(processes)]
    settings = json.dumps(dataclasses.asdict(config))
    corpus.mkdir(parents=True, exist_ok=True)
    logs = [corpus / f"{index}.log" for index in range(processes)]
    started = []
    for index, log in enumerate(logs):
        own = (outs or {}).get(index, out)
        command = [sys.executable, "-m", "asr_qat.training.worker_testing"]
        with log.open("w") as output, log.with_suffix(".err").open("w") as errors:
            process = subprocess.Popen(
                [*command, str(own), str(corpus), settings],
                stdout=output,
                stderr=errors,
                env={**os.environ, **variables(backend, addresses, index)},
            )
        started.append(process)
    began, codes, seconds = time.perf_counter(), [], []
    try:
        for process in started:
            codes.append(process.wait(timeout=max(1.0, timeout + began - time.perf_counter())))
            seconds.append(round(time.perf_counter() - began, 1))
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [_outcome(*each) for each in zip(codes, logs, seconds, strict=True)]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def variables(backend: str, addresses: list[str], index: int) -> dict[str, str]:
    """Of the environment of one process of several."""
    found = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2", "TF_CONFIG": ""}
    # Most of the time of so short a run is XLA's.
    found["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if len(addresses) > 1 and backend == "tensorflow":
        task = {"type": "worker", "index": index}
        found["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    elif len(addresses) > 1:
        found["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = addresses[0]
        found["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(len(addresses))
        found["KERAS_DISTRIBUTION_PROCESS_ID"] = str(index)
    return found


def _outcome(code: int, log: Path, seconds: float) -> Outcome:
    printed = [line for line in log.read_text().splitlines() if line.startswith('{"')]
    lines: list[dict[str, Any]] = [json.loads(line) for line in printed]
    return Outcome(
        code=code,
        losses=[line["loss"] for line in lines if "loss" in line],
        weights=next((line["weights"] for line in lines if "weights" in line), ""),
        errors=log.with_suffix(".err").read_text()[-4000:],
        seconds=seconds,
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), WorkerRun(**json.loads(sys.argv[3])))
