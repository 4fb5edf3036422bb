"""Averages of weights: of the last epochs, or the optimizer's moving average."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class AverageWeights(keras.callbacks.Callback):
    """Ends training with the mean of the weights after each of the last epochs.

    Checkpoints hold the sum so far (it is a `checkpoints.Part`). Comes before
    `asr_qat.training.pruning.Pruning`, which writes its zeros into the averages.

    Args:
        last: epochs that are averaged.
        epochs: of the whole run.
    """

    name = "average"

    def __init__(self, last: int, epochs: int):
        super().__init__()
        self.first = epochs - last
        self.sums: list[np.ndarray] = []
        self.count = 0

    def on_epoch_end(self, epoch, logs=None):
        """Adds the present weights."""
        if epoch >= self.first:
            values = [
                ops.convert_to_numpy(v).astype("float64") for v in self.model.trainable_variables
            ]
            # Not in place: a checkpoint may still hold the arrays.
            sums = self.sums or [np.zeros_like(value) for value in values]
            self.sums = [a + b for a, b in zip(sums, values, strict=True)]
            self.count += 1

    def on_train_end(self, logs=None):
        """Puts the averages into the model."""
        if self.count:
            assign_values(self.model.trainable_variables, [each / self.count for each in self.sums])

    def get_state(self):
        """The sums and the number of epochs in them."""
        return {"count": self.count, **{str(i): each for i, each in enumerate(self.sums)}}

    def set_state(self, state):
        """The inverse of `get_state`."""
        self.count = state["count"]
        self.sums = [state[str(i)] for i in range(len(state) - 1)]


class EvaluateAverages(keras.callbacks.Callback):
    """Validates with the optimizer's moving averages, which the run will end with.

    Keras' own `SwapEMAWeights` swaps by adding and subtracting, which rounds the weights.
    """

    def __init__(self):
        super().__init__()
        self._kept: list[np.ndarray] = []

    def on_test_begin(self, logs=None):
        """Puts the averages into the model."""
        self._kept = swap_in_averages(self.model)

    def on_test_end(self, logs=None):
        """Puts the weights back."""
        assign_values(self.model.trainable_variables, self._kept)
        self._kept = []


def swap_in_averages(model: keras.Model) -> list[np.ndarray]:
    """Gives a model the optimizer's moving averages; returns its own trainable weights."""
    kept = [np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    # On JAX they share memory with the optimizer's now, and an evaluation gives its own away.
    values = [np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables]
    assign_values(model.trainable_variables, values)
    return kept


def assign_values(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    """Assigns arrays to variables, rounded to their types."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value.astype(keras.backend.standardize_dtype(variable.dtype)))
