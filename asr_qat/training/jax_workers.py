"""Training by several processes on JAX, with `keras.distribution.DataParallel`.

Keras gives every process its copy of the weights and makes one array of the parts of a batch. The
step that Keras compiles from that is right, but XLA, which is left to find what to exchange, does
so inside the loops of the RNN-T loss, for every frame and every step of a search. `jax.shard_map`
says what is meant: each process computes its own part, and the gradients are averaged.
"""

import contextlib
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec
from keras import ops

from asr_qat.training.workers import SEED_STRIDE, Workers, is_seed


class JaxWorkers(Workers):
    """The processes that ``KERAS_DISTRIBUTION_JOB_ADDRESSES`` and so on name; see `Workers`.

    Args:
        process_index: of this process.
        process_count: of all.

    Raises:
        ValueError: if a process has several accelerators.
    """

    lost = (jax.errors.JaxRuntimeError,)

    def __init__(self, process_index: int, process_count: int):
        self.process_index, self.process_count = process_index, process_count
        keras.distribution.initialize()
        if jax.device_count() != process_count:
            raise ValueError(
                f"{process_count} processes see {jax.device_count()} devices; expected a process "
                "for each accelerator, chosen by CUDA_VISIBLE_DEVICES"
            )
        # The pipeline gives each process its own rows, so Keras need not.
        self._distribution = keras.distribution.DataParallel(auto_shard_dataset=False)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """See `Workers.scope`."""
        return self._distribution.scope()

    @contextlib.contextmanager
    def apart(self):
        """See `Workers.apart`; a variable made in the scope would wait for the others'."""
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)

    def prepare(self, model: keras.Model) -> None:
        """See `Workers.prepare`.

        Raises:
            ValueError: if the model is not to be compiled by XLA.
        """
        if not model.jit_compile:
            raise ValueError(
                f"jit_compile={model.jit_compile} with {self.process_count} processes: expected "
                "True on JAX"
            )
        mesh, axis = self._distribution.device_mesh.backend_mesh, self._distribution.batch_dim_name
        steps = _Steps(model, mesh, axis)
        model.train_step, model.test_step = steps.train, steps.test
        model.train_function = model.test_function = None

    def gather(self, values: np.ndarray) -> np.ndarray:
        """See `Workers.gather`."""
        return np.asarray(multihost_utils.process_allgather(np.asarray(values)))


class _Steps:
    """In place of Keras' steps; Keras compiles them."""

    def __init__(self, model: Any, mesh: Any, axis: str):
        self.model, self.mesh, self.axis = model, mesh, axis

    def train(self, state, data):
        """State and batch -> logs and the next state."""
        trained, others, optimizer, metrics = state
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        gradients, loss, others = self._each(self._differentiate, batch, trained, others, optimizer)
        trained, optimizer = self.model.optimizer.stateless_apply(optimizer, gradients, trained)
        logs, metrics = self._logs(metrics, loss, batch)
        return logs, (trained, others, optimizer, metrics)

    def test(self, state, data):
        """State and batch -> logs and the state; batches are whole in every process."""
        trained, others, metrics = state
        batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        loss, others = self._each(self._evaluate, batch, trained, others)
        logs, metrics = self._logs(metrics, loss, batch)
        return logs, (trained, others, metrics)

    def _each(self, function, batch, *state):
        """What each process computes of its own rows; the results are the same everywhere."""
        everywhere = PartitionSpec()
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=(PartitionSpec(self.axis), *(everywhere for _ in state)),
            out_specs=everywhere,
            check_vma=False,
        )(batch, *state)

    def _differentiate(self, batch, trained, others, optimizer):
        shift = SEED_STRIDE * jax.lax.axis_index(self.axis)
        differentiate = jax.value_and_grad(self._loss, has_aux=True)
        (_, (loss, after)), gradients = differentiate(
            trained, self._shifted(others, shift), batch, True, optimizer
        )
        gradients, loss = jax.lax.pmean((gradients, loss), self.axis)
        return gradients, loss, self._together(self._shifted(after, -shift))

    def _evaluate(self, batch, trained, others):
        _, (loss, after) = self._loss(trained, others, batch, False, None)
        return jax.lax.pmean(loss, self.axis), self._together(after)

    def _loss(self, trained, others, batch, training, optimizer):
        loss, (unscaled, _, after, _) = self.model.compute_loss_and_updates(
            trained, others, [], batch, None, None, training=training, optimizer_variables=optimizer
        )
        return loss, (unscaled, after)

    def _shifted(self, others, shift):
        """Seeds of each process' own, so that its rows get masks of their own."""
        variables = self.model.non_trainable_variables
        return [
            value + ops.cast(ops.stack([shift, 0]), value.dtype) if is_seed(variable) else value
            for variable, value in zip(variables, others, strict=True)
        ]

    def _together(self, others):
        """Means of the ranges that the processes have observed."""
        variables = self.model.non_trainable_variables
        return [
            jax.lax.pmean(value, self.axis) if variable.aggregation == "mean" else value
            for variable, value in zip(variables, others, strict=True)
        ]

    def _logs(self, metrics, loss, batch):
        rows = batch["audio_length"].shape[0]
        tracker = next(metric for metric in self.model.metrics if metric.name == "loss")
        metrics = tracker.stateless_update_state(metrics, loss, sample_weight=rows)
        return {"loss": tracker.stateless_result(metrics)}, metrics
