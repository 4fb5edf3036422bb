"""Pruning while training: a Keras callback that masks the smallest weights of dense layers.

Masks are recomputed as training goes (1710.01878, 1909.12408). The weights behind them are kept
and go on learning, so a weight that was pruned comes back when it has grown.
"""

import dataclasses
import re
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from asr_qat.layers.dense import Dense
from asr_qat.quantization.sparsity import PrunedProduct, cubic_sparsity, magnitude_mask


class PruningError(ValueError):
    """Pruning that cannot be done as it was asked for."""


def _check_settings(sparsity, every, block, pattern):
    if not 0 < sparsity < 1:
        raise PruningError(f"sparsity: received {sparsity}, expected above 0 and below 1")
    if every < 1:
        raise PruningError(f"steps between masks: received {every}, expected at least 1")
    if block < 1:
        raise PruningError(f"weights in a block: received {block}, expected at least 1")
    try:
        re.compile(pattern)
    except re.error as e:
        raise PruningError(f"pattern {pattern!r}: not a regular expression: {e}") from e


class Pruning(keras.callbacks.Callback):
    """Prunes dense layers during ``fit``, whatever their precision, from 0 to a final sparsity.

    ``sparsity * (1 - (1 - (step - begin_step) / (end_step - begin_step))^3)`` of the weights of
    each layer are zero; from ``end_step`` on the masks stay. Steps are counted by the optimizer,
    so a run that goes on from a checkpoint goes on here too: the masks are weights of the layers,
    and checkpoints hold them. When training ends, masked weights become zeros and the masks are
    gone: what is saved then is an ordinary model. (A whole ``.keras`` file that is written between
    has the masks in it and does not load; `training.checkpoints` are for that.)

    Args:
        sparsity: share of each layer's weights that are zero in the end, above 0 and below 1.
        begin_step: steps before the first weight is pruned.
        end_step: steps until the final sparsity is reached.
        every: steps between two computations of the masks.
        block: 1 for single weights, 8 for blocks of 8 neighbouring outputs of one input.
        pattern: a regular expression, searched in the paths of the dense layers; "" is all.

    Raises:
        PruningError: for settings out of range; in ``fit``, for a pattern that matches no layer,
            a layer that has no whole number of blocks, or a run that ends before ``end_step``.
    """

    def __init__(
        self,
        sparsity: float,
        begin_step: int,
        end_step: int,
        every: int = 100,
        block: int = 1,
        pattern: str = "",
    ):
        super().__init__()
        _check_settings(sparsity, every, block, pattern)
        if not 0 <= begin_step < end_step:
            raise PruningError(
                f"pruning from step {begin_step} to step {end_step}: expected two steps, the "
                "second after the first (a longer run has more of them)"
            )
        self.sparsity, self.block, self.pattern = sparsity, block, pattern
        self.begin_step, self.end_step, self.every = begin_step, end_step, every
        self.layers: list[Any] = []

    def set_model(self, model):
        """Adds the masks: before training is compiled, and before a checkpoint is restored."""
        super().set_model(model)
        dense = dense_layers(model)
        self.layers = [layer for layer in dense if re.search(self.pattern, layer.path)]
        if not self.layers:
            raise PruningError(
                f"pattern {self.pattern!r} matches no layer; the layers are: "
                + ", ".join(layer.path for layer in dense)
            )
        for layer in self.layers:
            if layer.kernel.shape[1] % self.block:
                raise PruningError(
                    f"{layer.path}: {layer.kernel.shape[1]} outputs (kernel "
                    f"{list(layer.kernel.shape)}) are no whole number of blocks of {self.block}; "
                    "choose other blocks, or layers by a pattern"
                )
        strategy = getattr(model, "distribute_strategy", None)  # TensorFlow's
        with strategy.scope() if strategy else nullcontext():
            for layer in self.layers:
                add_mask(layer)
        _compile_anew(model)

    def on_train_begin(self, logs=None):
        """Forgets an earlier run."""
        self._steps: int | None = None  # that are done

    def on_epoch_begin(self, epoch, logs=None):
        """Finds out how many steps are done; raises `PruningError` if too few are left."""
        # Its public `iterations` counts whole accumulations of gradients.
        done = int(ops.convert_to_numpy(self.model.optimizer._iterations))
        if self._steps is None:
            self._check_steps(done, epoch)
            self._steps = done
        self._before_epoch = done

    def on_train_batch_end(self, batch, logs=None):
        """Recomputes the masks when it is time to."""
        before, self._steps = self._steps, self._before_epoch + batch + 1
        if self._computations(self._steps) > self._computations(before):
            if hasattr(self.model, "jax_state_sync"):
                # JAX's trainer holds the weights itself within an epoch; after this it gives them
                # to the variables, and takes them from there again for the next step.
                self.model.jax_state_sync()
            self._prune(cubic_sparsity(self._steps, self.begin_step, self.end_step, self.sparsity))

    def on_epoch_end(self, epoch, logs=None):
        """Logs the present share of zeros as ``sparsity``."""
        if logs is not None:
            masks = [layer.product.mask for layer in self.layers]
            ones = sum(float(ops.sum(mask)) for mask in masks)
            logs["sparsity"] = 1.0 - ones / sum(int(np.prod(mask.shape)) for mask in masks)

    def on_train_end(self, logs=None):
        """Writes the zeros into the kernels and takes the masks away."""
        bake(self.model)

    def _check_steps(self, done, epoch):
        problem = None
        if done >= self.end_step and not self._pruned():
            problem = (
                f"the optimizer has done {done} steps, and pruning ends at step {self.end_step}: "
                "expected a model that was compiled anew, or later steps"
            )
        if self.params.get("steps"):
            total = done + (self.params["epochs"] - epoch) * self.params["steps"]
            total -= self.params.get("steps_before", 0)  # of an epoch that is gone on with
            if total < self.end_step:
                problem = (
                    f"the run ends at step {total}, and the final sparsity is reached at step "
                    f"{self.end_step}: expected a longer run, or an earlier step"
                )
        if problem:
            for layer in self.layers:
                remove_mask(layer)
            _compile_anew(self.model)
            raise PruningError(problem)

    def _computations(self, step):
        """How often masks have been computed after so many steps."""
        if step < self.begin_step:
            return 0
        whole, rest = divmod(min(step, self.end_step) - self.begin_step, self.every)
        return 1 + whole + (1 if step >= self.end_step and rest else 0)

    def _prune(self, sparsity):
        for layer in self.layers:
            kernel = ops.convert_to_numpy(layer.kernel)
            layer.product.mask.assign(magnitude_mask(kernel, sparsity, self.block))

    def _pruned(self):
        return any(bool(ops.any(layer.product.mask == 0)) for layer in self.layers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruningConfig:
    """How a run prunes; its steps are shares of the run's.

    Raises:
        PruningError: for settings out of range.
    """

    sparsity: float  # share of each layer's weights that are zero in the end
    block: int = 1  # neighbouring outputs that stay or go together: 1 or 8
    pattern: str = ""  # searched in the paths of the dense layers; all of them
    every: int = 100  # steps between two computations of the masks
    begin: float = 0.1  # share of the run before the first weight is pruned
    end: float = 0.7  # share of the run until the final sparsity is reached

    def __post_init__(self):
        _check_settings(self.sparsity, self.every, self.block, self.pattern)
        if not 0 <= self.begin < self.end <= 1:
            raise PruningError(
                f"pruning from {self.begin} to {self.end} of the run: expected two shares of it, "
                "the second after the first"
            )

    def callback(self, steps: int) -> Pruning:
        """The callback for a run of so many steps.

        Raises:
            PruningError: for a run too short.
        """
        return Pruning(
            self.sparsity,
            int(self.begin * steps),
            int(self.end * steps),
            self.every,
            self.block,
            self.pattern,
        )


def dense_layers(model: Any) -> list[Dense]:
    """The layers that can be pruned, each once."""
    return list(dict.fromkeys(x for x in model._flatten_layers() if isinstance(x, Dense)))


def add_mask(layer: Dense) -> None:
    """Masks a built layer's kernel, at first by ones; a layer that has a mask keeps it."""
    if isinstance(layer.product, PrunedProduct):
        return
    locked = layer._tracker.locked  # Keras lets a built layer have no further weights
    layer._tracker.unlock()
    mask = layer.add_weight(
        shape=layer.kernel.shape, initializer="ones", trainable=False, autocast=False, name="mask"
    )
    if locked:
        layer._tracker.lock()
    layer.product = PrunedProduct(layer.product, mask)


def remove_mask(layer: Dense) -> None:
    """Takes the mask away and leaves the kernel as it is, pruned weights included."""
    layer._untrack_variable(layer.product.mask)
    layer.product = layer.product.product


def bake(model: keras.Model) -> None:
    """Writes zeros where masks are zero and takes the masks away; `Pruning` does it at the end.

    After a ``fit`` that an exception ended, the masks are still there: a further ``fit`` with
    `Pruning` goes on with them, or this removes them.
    """
    for layer in dense_layers(model):
        if isinstance(layer.product, PrunedProduct):
            layer.kernel.assign(effective_kernel(layer))
            remove_mask(layer)
    _compile_anew(model)


def effective_kernel(layer: Dense) -> np.ndarray:
    """The kernel ``[in, out]`` as the layer multiplies it: masked while it is being pruned."""
    kernel = ops.convert_to_numpy(layer.kernel)
    if isinstance(layer.product, PrunedProduct):
        kernel = np.where(ops.convert_to_numpy(layer.product.mask) > 0, kernel, 0)
    return kernel


def _compile_anew(model):
    """Functions that Keras has compiled do not know of weights that came or went."""
    model.train_function = model.test_function = model.predict_function = None


@dataclasses.dataclass(frozen=True)
class LayerSparsity:
    """How many weights of a dense layer's kernel are not zero."""

    path: str
    shape: tuple[int, int]  # inputs, outputs
    nonzero: int

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1.0 - self.nonzero / (self.shape[0] * self.shape[1])


@dataclasses.dataclass(frozen=True)
class SparsityReport:
    """How many parameters of a model are not zero."""

    layers: tuple[LayerSparsity, ...]  # every dense layer
    parameters: int  # of the whole model
    nonzero_parameters: int  # of them, without the zeros in the dense layers' kernels

    @property
    def sparsity(self) -> float:
        """Share of zeros in the whole model."""
        return 1.0 - self.nonzero_parameters / self.parameters

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self)


def sparsity_report(model: keras.Model) -> SparsityReport:
    """Counts a model's weights, by layer and in all; while it is being pruned, too."""
    layers, parameters, zeros = [], model.count_params(), 0
    for layer in dense_layers(model):
        kernel = effective_kernel(layer)
        layers.append(LayerSparsity(layer.path, kernel.shape, int(np.count_nonzero(kernel))))
        zeros += kernel.size - layers[-1].nonzero
        if isinstance(layer.product, PrunedProduct):
            parameters -= kernel.size  # the mask is no parameter
    return SparsityReport(tuple(layers), parameters, parameters - zeros)


def nonzero_parameters(model: keras.Model) -> int:
    """Parameters of a model, without the zeros in the kernels of its dense layers."""
    return sparsity_report(model).nonzero_parameters
