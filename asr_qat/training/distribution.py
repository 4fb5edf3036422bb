"""Which processes train together, as the environment says."""

import json
import os
from collections.abc import Mapping

import keras

from asr_qat.training.workers import ALONE, Workers


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
