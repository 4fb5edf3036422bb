"""Several processes, on one machine or more, that train one model.

Each process reads its own part of every batch, computes the gradient of the mean loss of that part,
and gets the mean of all gradients; from there on all of them do the same. Process 0, the chief,
writes the files.

    workers = workers_from_environment()  # before anything else is done with Keras
    with workers.scope():
        model = make_model(...)
        train_model(model, ..., workers=workers)
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

# Of the seeds of one process to those of the next, so that their rows get masks of their own.
SEED_STRIDE = 7919


class Workers:
    """The processes of a run, seen from one of them; this class itself is one process alone.

    Attributes:
        process_index: of this process, from 0.
        process_count: of all of them.
    """

    process_index: int = 0
    process_count: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.process_index == 0

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """In which models are made, compiled and trained."""
        return contextlib.nullcontext()

    def apart(self) -> contextlib.AbstractContextManager[Any]:
        """Within a scope: what one process does with Keras and the others do not."""
        return contextlib.nullcontext()

    def prepare(self, model: keras.Model) -> None:
        """Lets the training steps of a compiled model be steps of all processes.

        To be called again whenever Keras has forgotten its training function.
        """

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Every process' values: int32 ``[n]`` -> int32 ``[process_count, n]``.

        All processes must call this, and get there.
        """
        return values[None]

    def wait(self) -> None:
        """Returns when all processes have got here."""
        self.gather(np.zeros(1, np.int32))

    def require_same(self, what: str, value: int, remedy: str) -> None:
        """Raises `ValueError` in every process if one of them has another value than the chief.

        Args:
            what: the value is, for the message.
            value: of this process, int32.
            remedy: what is expected, for the message.
        """
        values = self.gather(np.asarray([value], np.int32))[:, 0]
        for process, found in enumerate(values):
            if found != values[0]:
                raise ValueError(
                    f"{what}: process {process} has {found}, process 0 has {values[0]}; "
                    f"expected {remedy}"
                )


ALONE = Workers()


class SameWeights(keras.callbacks.Callback):
    """Ends a run whose processes have drifted apart, at the latest after an epoch.

    Args:
        workers: the processes.
    """

    def __init__(self, workers: Workers):
        super().__init__()
        self.workers = workers

    def on_train_begin(self, logs=None):
        """Compares what the processes begin with."""
        self._compare("weights before the first step", "the same --seed and --init everywhere")

    def on_epoch_end(self, epoch, logs=None):
        """Compares what the epoch made of it."""
        self._compare(f"weights after epoch {epoch + 1}", "the same processors and versions")

    def _compare(self, what, remedy):
        self.workers.require_same(f"digest of the {what}", digest(self.model), remedy)


def digest(model: keras.Model) -> int:
    """31 bits that change with the weights, and with everything else that a checkpoint holds."""
    content = hashlib.sha256()
    for variable in [*model.variables, *model.optimizer.variables]:
        content.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    return int.from_bytes(content.digest()[:4], "little") >> 1


def is_seed(variable: Any) -> bool:
    """Whether it is the state of a seed generator, ``[seed, count]``."""
    return variable.path.rsplit("/", 1)[-1] == "seed_generator_state"


def workers_from_environment(environment: Mapping[str, str] = os.environ) -> Workers:
    """The processes that the environment names; must come before any other work with Keras.

    On TensorFlow ``TF_CONFIG`` names them, on JAX ``KERAS_DISTRIBUTION_JOB_ADDRESSES``,
    ``KERAS_DISTRIBUTION_NUM_PROCESSES`` and ``KERAS_DISTRIBUTION_PROCESS_ID`` do. Waits until all
    of them have started.

    Raises:
        ValueError: if they do not fit together, or are those of the other backend.
    """
    backend = keras.backend.backend()
    tensorflow, jax = cluster(environment), keras_processes(environment)
    if tensorflow is not None and backend != "tensorflow":
        raise ValueError(
            f"TF_CONFIG names {tensorflow[1]} processes, and Keras runs on {backend}; expected "
            "KERAS_BACKEND=tensorflow, or KERAS_DISTRIBUTION_JOB_ADDRESSES on JAX"
        )
    if jax is not None and backend != "jax":
        raise ValueError(
            f"KERAS_DISTRIBUTION_NUM_PROCESSES is {jax[1]}, and Keras runs on {backend}; expected "
            "KERAS_BACKEND=jax, or TF_CONFIG on TensorFlow"
        )
    if tensorflow is not None:
        from asr_qat.training.tensorflow_workers import TensorFlowWorkers

        return TensorFlowWorkers(*tensorflow)
    if jax is not None:
        from asr_qat.training.jax_workers import JaxWorkers

        return JaxWorkers(*jax)
    return ALONE


def cluster(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Index of this process and number of processes by ``TF_CONFIG``; None for one alone.

    Raises:
        ValueError: if it cannot be read, or has tasks that train no mirrored model.
    """
    text = environment.get("TF_CONFIG", "")
    if not text.strip():
        return None
    try:
        config = json.loads(text)
        jobs = {job: list(addresses) for job, addresses in config.get("cluster", {}).items()}
        task = config.get("task", {})
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"TF_CONFIG={text!r}: {error}; expected JSON such as "
            '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
            '"task": {"type": "worker", "index": 0}}'
        ) from error
    if not jobs.keys() <= {"chief", "worker"} or len(jobs.get("chief", ())) > 1:
        raise ValueError(f"TF_CONFIG: jobs {sorted(jobs)}; expected worker, and at most one chief")
    count = sum(len(addresses) for addresses in jobs.values())
    if count <= 1:
        return None
    if not 0 <= index < len(jobs.get(kind, ())):
        sizes = {job: len(addresses) for job, addresses in jobs.items()}
        raise ValueError(f"TF_CONFIG: task {kind} {index}; expected one of the tasks of {sizes}")
    return (index + len(jobs.get("chief", ())) if kind == "worker" else 0), count


def keras_processes(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """As `cluster`, by the variables of ``keras.distribution.initialize``.

    Raises:
        ValueError: if only some of them are set, or numbers are out of range.
    """
    start = "KERAS_DISTRIBUTION_"
    addresses, *numbers = (
        environment.get(start + name, "").strip()
        for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    )
    if not addresses and numbers[0] in ("", "1"):
        return None
    if not all((addresses, *numbers)):
        raise ValueError(
            f"{start}JOB_ADDRESSES={addresses!r}, {start}NUM_PROCESSES={numbers[0]!r}, "
            f"{start}PROCESS_ID={numbers[1]!r}: expected all three"
        )
    try:
        count, index = (int(number) for number in numbers)
    except ValueError:
        count, index = 0, 0
    if not 0 <= index < count:
        raise ValueError(
            f"{start}PROCESS_ID={numbers[1]!r} of {start}NUM_PROCESSES={numbers[0]!r}: "
            "expected a number from 0 on that is less than the other"
        )
    return None if count == 1 else (index, count)
