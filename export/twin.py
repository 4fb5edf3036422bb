"""The float twin: the model's graph with every weight of a product as an input.

TFLite's converter cannot take the integer graph, and large constants make it slow. So it is
given the same graph in float, in which the weights are inputs without values; `lowering` then
turns each of those inputs into the constant that the layer's recipe stores.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from .lowering import Lowering
from .signature import Signature

PREFIX = "weight_"


def weight_input(number: int) -> str:
    """The name of the input that stands for the weight of lowering ``number``."""
    return f"{PREFIX}{number}"


class _Traced:
    """Stands in for a layer's product while its model is traced."""

    def __init__(self, lowering: Lowering, held: dict, number: int):
        self.lowering, self.held, self.name = lowering, held, weight_input(number)

    def __call__(self, x, kernel, *rest):
        return self.lowering.trace(x, self.held[self.name], *rest)


@contextlib.contextmanager
def weights_as_inputs(
    lowerings: Sequence[Lowering],
) -> Iterator[Callable[[Signature], Signature]]:
    """Within it, the layers take their weights from inputs that a signature is given.

    Yields:
        A function that adds those inputs to a signature.
    """
    held: dict[str, tf.Tensor] = {}
    products = [lowering.layer.product for lowering in lowerings]
    specs = {
        weight_input(i): tf.TensorSpec(lowering.traced_shape, tf.float32, name=weight_input(i))
        for i, lowering in enumerate(lowerings)
    }

    def with_weights(signature: Signature) -> Signature:
        def function(**inputs):
            held.update({name: inputs.pop(name) for name in specs})
            return signature.function(**inputs)

        return Signature(signature.name, function, {**signature.inputs, **specs})

    for i, lowering in enumerate(lowerings):
        lowering.layer.product = _Traced(lowering, held, i)
    try:
        yield with_weights
    finally:
        for lowering, product in zip(lowerings, products, strict=True):
            lowering.layer.product = product
