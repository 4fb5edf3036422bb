"""What training does to weights before it quantizes them: clipping, the pull, the drawn width."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from asr_qat.quantization import integers
from asr_qat.quantization.integers import Tensor
from asr_qat.quantization.spec import WeightSpec, largest_code

LLOYD_STEPS = 50  # from the largest weight on; few are needed
LEAST_SHARE = 0.05  # of a channel's largest weight that learned clipping leaves


class NoClipping:
    """All weights keep their values."""

    def build(self, layer: Any, channels: int) -> None:
        """Adds nothing."""

    def start_from(self, kernel: Tensor) -> None:
        """Does nothing."""

    def __call__(self, kernel: Tensor, training: bool = False) -> Tensor:
        """The kernel."""
        return kernel


class LearnedClipping:
    """Weights beyond a share of their channel's largest one are clipped; the share is trained.

    The share gets its gradient from the clipped weights and through the scale, which is PACT's
    (1805.06085) for weights. It starts at 1, on trained weights where Lloyd's steps lead. Since the
    limit becomes the channel's largest weight, the scale is that of the clipped kernel; a file
    knows nothing of it.

    Args:
        weight: the grid.
    """

    trainable = True

    def __init__(self, weight: WeightSpec):
        self.weight = weight

    def build(self, layer: Any, channels: int) -> None:
        """Adds the shares ``[channels]`` to the layer."""
        self.share = layer.add_weight(
            shape=(channels,),
            initializer="ones",
            trainable=self.trainable,
            autocast=False,
            name="clip",
            aggregation="none" if self.trainable else "only_first_replica",
        )

    def start_from(self, kernel: Tensor) -> None:
        """Sets the shares to what has the least squared error for trained weights."""
        self.share.assign(lloyd_max_share(kernel, self.weight))

    def __call__(self, kernel: Tensor, training: bool = False) -> Tensor:
        """``[k, channels]`` -> ``[k, channels]``."""
        return clipped(kernel, ops.convert_to_tensor(self.share))


class LloydMaxClipping(LearnedClipping):
    """The same with the share whose uniform grid has the least squared error, by Lloyd's steps.

    Each training step does one: weights go to the nearest code, then the scale becomes
    ``sum(w code) / sum(code^2)``, per channel (S. Lloyd, "Least squares quantization in PCM",
    1982; S8BQAT's centroids, 2206.15408, confined to the uniform grid that kernels multiply).
    """

    trainable = False

    def __call__(self, kernel, training=False):
        """See `LearnedClipping`; in training the share is moved first."""
        share = ops.convert_to_tensor(self.share)
        if training:
            share = lloyd_max_step(ops.stop_gradient(kernel), share, self.weight)
            self.share.assign(share)
        return clipped(kernel, share)


def clipped(kernel: Tensor, share: Tensor) -> Tensor:
    """The kernel within ``share * max_k |w[k, c]|``, the share within [`LEAST_SHARE`, 1].

    Args:
        kernel: float32 ``[k, channels]``.
        share: float32 ``[channels]``; gradients pass its own bounds.
    """
    share = share + ops.stop_gradient(ops.clip(share, LEAST_SHARE, 1.0) - share)
    limit = ops.max(ops.abs(kernel), axis=0, keepdims=True) * share
    return ops.maximum(ops.minimum(kernel, limit), -limit)


def lloyd_max_share(kernel: Tensor, weight: WeightSpec) -> Tensor:
    """The share ``[channels]`` that Lloyd's steps lead to from the largest weight on.

    Args:
        kernel: float32 ``[k, channels]``.
        weight: the grid.
    """
    share = ops.ones((kernel.shape[1],))
    for _ in range(LLOYD_STEPS):
        share = lloyd_max_step(kernel, share, weight)
    return share


def clipped_at_start(kernel: Tensor, weight: WeightSpec) -> Tensor:
    """A trained kernel ``[k, channels]`` as it is clipped before any further training."""
    if weight.clipping == "none":
        return kernel
    return clipped(kernel, lloyd_max_share(kernel, weight))


def lloyd_max_step(kernel: Tensor, share: Tensor, weight: WeightSpec) -> Tensor:
    """The share ``[channels]`` after one of Lloyd's steps from another share.

    Args:
        kernel: float32 ``[k, channels]``.
        share: float32 ``[channels]``.
        weight: the grid.
    """
    largest = ops.max(ops.abs(kernel), axis=0)
    scale = integers.weight_scale(clipped(kernel, share), weight)
    codes = ops.cast(integers.weight_codes(kernel, scale, weight), "float32")
    squares = ops.sum(codes * codes, axis=0)
    found = ops.sum(kernel * codes, axis=0) / ops.maximum(squares, 1.0)
    limit = found * (1.0 / weight.reciprocal)
    known = ops.logical_and(squares > 0, largest > 0)
    new = limit / ops.where(known, largest, 1.0)
    return ops.where(known, ops.clip(new, LEAST_SHARE, 1.0), share)


CLIPPINGS: dict[str, Callable[[WeightSpec], Any]] = {
    "none": lambda weight: NoClipping(),
    "learned": LearnedClipping,
    "lloyd_max": LloydMaxClipping,
}


class DrawnWidth(NamedTuple):
    """A grid whose width a training step has drawn; stands in for a `WeightSpec`."""

    qmax: Tensor  # largest code, float32 scalar
    reciprocal: Tensor  # 1 / qmax
    scale_gradient: bool
    divisor: None = None


class Weights:
    """How a product comes by the kernel that it quantizes, and by the grid.

    Args:
        weight: of the spec.
    """

    def __init__(self, weight: WeightSpec):
        self.weight = weight
        self.clipping = CLIPPINGS[weight.clipping](weight)
        self._layer: Any = None

    def build(self, layer: Any, channels: int) -> None:
        """Adds weights and random states that the spec asks for to the layer."""
        self.clipping.build(layer, channels)
        self._layer = layer
        if self.weight.co_trained:
            layer.width_seeds = keras.random.SeedGenerator()

    def __call__(self, kernel: Tensor, training: bool) -> tuple[Tensor, integers.WeightGrid]:
        """What is quantized, and how.

        Args:
            kernel: float32 ``[k, channels]``.
            training: whether this is a training step: then the pull's loss is added to the
                layer's, and the width is drawn.

        Returns:
            The clipped kernel; a `WeightSpec` or a `DrawnWidth`.
        """
        kernel = self.clipping(kernel, training)
        weight: Any = self.weight
        if training and weight.co_trained:
            weight = drawn_width(weight, self._layer.width_seeds)
        if training and self.weight.pull:
            self._layer.add_loss(self.weight.pull * distance_from_grid(kernel, weight))
        return kernel, weight

    def start_from(self, kernel: Tensor) -> None:
        """Sets what the spec asks for to fit trained weights ``[k, channels]``."""
        self.clipping.start_from(kernel)

    def served(self, kernel: Tensor) -> Tensor:
        """The kernel ``[k, channels]`` that a file stores the codes of."""
        return self.clipping(kernel)


def drawn_width(weight: WeightSpec, seeds: Any) -> DrawnWidth:
    """One of the co-trained widths, all equally likely."""
    largest = np.array([largest_code(bits) for bits in weight.co_trained], np.float32)
    which = keras.random.randint((), 0, len(largest), seed=seeds)
    return DrawnWidth(
        ops.take(ops.convert_to_tensor(largest), which),
        ops.take(ops.convert_to_tensor((1.0 / largest.astype(float)).astype(np.float32)), which),
        weight.scale_gradient,
    )


def distance_from_grid(kernel: Tensor, weight: integers.WeightGrid) -> Tensor:
    """S8BQAT's absolute cosine (2206.15408): 0 at every code, 1 in the middle between two.

    The mean over all weights of ``|cos(pi (w / scale + 1/2))|``; the scale gets no gradient.

    Args:
        kernel: float32 ``[k, channels]``.
        weight: the grid.

    Returns:
        float32 scalar.
    """
    scale = ops.stop_gradient(integers.weight_scale(kernel, weight))
    return ops.mean(ops.abs(ops.sin(math.pi * (kernel / scale))))
