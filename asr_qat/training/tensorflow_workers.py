"""Training by several processes on TensorFlow, with `tf.distribute.MultiWorkerMirroredStrategy`.

The strategy connects the processes, watches over them, and averages: it is not what variables are
made in. Keras' step inside a strategy's scope would differ from that of one process: Keras clips
each process' gradient before it adds them up, XLA cannot compile the exchange between processes
(so Keras does not compile the step), and seed generators cannot move on there. Here XLA compiles
the gradient and the update, and what is exchanged between them is one vector.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from asr_qat.training.workers import SEED_STRIDE, Workers, is_seed


class TensorFlowWorkers(Workers):
    """The processes that ``TF_CONFIG`` names; see `Workers`.

    Args:
        process_index: of this process.
        process_count: of all.

    Raises:
        ValueError: if a process has several accelerators.
    """

    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )

    def __init__(self, process_index: int, process_count: int):
        self.process_index, self.process_count = process_index, process_count
        self._strategy = tf.distribute.MultiWorkerMirroredStrategy()
        devices = self._strategy.num_replicas_in_sync
        if devices != process_count:
            raise ValueError(
                f"{process_count} processes see {devices} devices; expected a process for each "
                "accelerator, chosen by CUDA_VISIBLE_DEVICES"
            )

    def prepare(self, model: keras.Model) -> None:
        """See `Workers.prepare`."""

        def make_train_function(force=False):
            # Keras asks for another one when weights have come or gone, as in pruning.
            if model.train_function is None or force:
                model.train_function = _Step(model, self)
            return model.train_function

        model.make_train_function = make_train_function
        model.train_function = None

    @tf.function(reduce_retracing=True)
    def mean(self, values: Any) -> Any:
        """Mean over the processes of a vector."""

        def reduce(mine):
            # A copy, because a tensor must have a device, and those of functions have none.
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.identity(mine))

        return self._strategy.run(reduce, args=(values,))

    def gather(self, values: np.ndarray) -> np.ndarray:
        """See `Workers.gather`."""
        return self._every(tf.constant(values[None])).numpy()

    @tf.function(reduce_retracing=True)
    def _every(self, values):
        def gather(mine):
            return tf.distribute.get_replica_context().all_gather(tf.identity(mine), axis=0)

        return self._strategy.run(gather, args=(values,))


class _Step:
    """In place of Keras' training function: takes an iterator of batches, returns the logs."""

    def __init__(self, model: keras.Model, workers: TensorFlowWorkers):
        self.model, self.workers = model, workers
        self.trained: list[Any] = []  # variables that have a gradient, known once it is traced
        self.averaged = [v for v in model.non_trainable_variables if v.aggregation == "mean"]
        self.seeds = [v for v in model.non_trainable_variables if is_seed(v)]
        compiled = {"jit_compile": model.jit_compile, "reduce_retracing": True}
        self.differentiate = tf.function(self._differentiate, **compiled)
        self.update = tf.function(self._update, **compiled)

    def __call__(self, iterator):
        mine = self.differentiate(keras.utils.unpack_x_y_sample_weight(next(iterator))[0])
        return self.update(self.workers.mean(mine))

    def _differentiate(self, batch):
        """Loss, gradient and observed ranges of this process' part of a batch, in one vector."""
        # Other masks than those of the other processes; the states themselves stay the same.
        shift = [SEED_STRIDE * self.workers.process_index, 0]
        for seed in self.seeds:
            seed.assign(seed + ops.cast(shift, seed.dtype))
        with tf.GradientTape() as tape:
            outputs = self.model(batch, training=True)
            loss = self.model.compute_loss(x=batch, y=None, y_pred=outputs, training=True)
            scaled = self.model.optimizer.scale_loss(loss)
        variables = self.model.trainable_variables
        gradients = tape.gradient(scaled, [v.value for v in variables])
        found = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        self.trained = [variable for _, variable in found]
        for seed in self.seeds:
            seed.assign(seed - ops.cast(shift, seed.dtype))
        rows = ops.shape(batch["audio_length"])[0] * self.workers.process_count
        parts = [loss, rows, *(tf.convert_to_tensor(g) for g, _ in found), *self.averaged]
        return ops.concatenate([ops.reshape(ops.cast(x, "float32"), (-1,)) for x in parts])

    def _update(self, means):
        """What one process does with the loss, the gradient and the ranges of a whole batch."""
        sizes = [1, 1, *(int(np.prod(v.shape)) for v in [*self.trained, *self.averaged])]
        loss, rows, *parts = tf.split(means, sizes)
        shaped = [
            ops.cast(ops.reshape(part, v.shape), v.dtype)
            for part, v in zip(parts, [*self.trained, *self.averaged], strict=True)
        ]
        self.model.optimizer.apply_gradients(
            zip(shaped[: len(self.trained)], self.trained, strict=True)
        )
        for variable, value in zip(self.averaged, shaped[len(self.trained) :], strict=True):
            variable.assign(value)
        tracker = next(metric for metric in self.model.metrics if metric.name == "loss")
        tracker.update_state(loss[0], sample_weight=rows[0])
        return {"loss": tracker.result()}
