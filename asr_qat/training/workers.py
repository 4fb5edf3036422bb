"""Several processes, on one machine or more, that train one model.

Each process reads its own part of every batch, computes the gradient of the mean loss of that part,
and gets the mean of all gradients; from there on all of them do the same. Process 0, the chief,
writes the files.

    workers = workers_from_environment()  # of `distribution`, before anything else
    with workers.scope():
        model = make_model(...)
        train_model(model, ..., workers=workers)
"""

import contextlib
import hashlib
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
        lost: exceptions that a step raises when another process is gone.
    """

    process_index: int = 0
    process_count: int = 1
    lost: tuple[type[Exception], ...] = ()

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
