"""Ranges of whole tensors: learned from the batches, and kept with the layer's weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from keras import ops

from asr_qat.quantization.integers import Tensor

# Share of the old range that a batch leaves; AI Edge Quantizer's calibrator uses the same.
MOMENTUM = 0.95


class RangeError(ValueError):
    """A layer with static activations whose ranges have never been observed."""


def range_of(x: Tensor) -> Tensor:
    """Smallest and largest value of a tensor and of 0, float32 ``[2]``."""
    x = ops.stop_gradient(x)
    return ops.stack([ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)])


def observed(x: Tensor, old: Tensor, training: bool) -> Tensor:
    """The range to quantize x with.

    Args:
        x: any shape.
        old: the range so far, ``[2]``; (0, 0) where nothing has been observed.
        training: whether to move the range towards the one of x: an exponential moving average,
            which starts at the first batch.

    Returns:
        float32 ``[2]``: lowest value, at most 0, and highest, at least 0.
    """
    here = range_of(x)
    known = old[1] > old[0]
    return ops.where(known, old + (here - old) * (1.0 - MOMENTUM) if training else old, here)


class LearnedRange:
    """A range ``[2]`` that is a non-trainable weight of a layer; (0, 0) until it is observed.

    Args:
        name: of the weight.
    """

    def __init__(self, name: str):
        self.name = name
        self.value: Any = None

    def build(self, layer: Any) -> None:
        """Makes the weight."""
        self.value = layer.add_weight(
            shape=(2,),
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="mean",  # of several devices, each of which sees a part of the batch
            name=self.name,
        )

    def __call__(self, x: Tensor, training: bool) -> Tensor:
        """The range to quantize x with, `observed`; in training it is kept."""
        new = observed(x, ops.convert_to_tensor(self.value), training)
        if training:
            self.value.assign(new)
        return new

    def known(self) -> bool:
        """Whether anything but silence has been observed."""
        low, high = ops.convert_to_numpy(self.value)
        return bool(high > low)


class _Observing:
    """Stands in for a product that shall learn its ranges outside of training."""

    def __init__(self, product):
        self.product = product

    def __call__(self, x, kernel, bias=None, training=False):
        return self.product(x, kernel, bias, training=True)


def calibrate(layers: Sequence[Any], forward: Callable[[Any], Any], batches: Iterable[Any]) -> None:
    """Lets the layers' products observe their ranges; all else is as in inference.

    Args:
        layers: dense layers of the model; those without ranges are left alone.
        forward: runs the model on a batch, such as ``model.encode``; not compiled.
        batches: what `forward` takes.

    Raises:
        RangeError: naming the layers that saw nothing.
    """
    chosen = [layer for layer in layers if hasattr(layer.product, "ranges_known")]
    products = [layer.product for layer in chosen]
    for layer in chosen:
        layer.product = _Observing(layer.product)
    try:
        for batch in batches:
            forward(batch)
    finally:
        for layer, product in zip(chosen, products, strict=True):
            layer.product = product
    require_ranges(chosen)


def require_ranges(layers: Iterable[Any]) -> None:
    """Raises `RangeError` for layers whose product has ranges that were never observed."""
    missing = [
        layer.path
        for layer in layers
        if hasattr(layer.product, "ranges_known") and not layer.product.ranges_known()
    ]
    if missing:
        raise RangeError(
            f"the activation ranges of {len(missing)} layer(s) have never been observed: "
            f"{', '.join(missing)}; train the model at this precision, or calibrate it with some "
            "batches first"
        )
