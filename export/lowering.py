"""How each recipe stands in a file: what is traced for the converter, and what is stored.

| product | operators | weight tensor |
|---|---|---|
| float | FULLY_CONNECTED | FLOAT32, or FLOAT16 and DEQUANTIZE |
| dynamic | FULLY_CONNECTED | INT8, INT4 or INT2, a scale for each channel |
| weight-only | FULLY_CONNECTED | the same, and DEQUANTIZE |
| static | QUANTIZE, FULLY_CONNECTED, DEQUANTIZE | INT8 or INT4 |
| 4-bit rows | float operators, FULLY_CONNECTED, MUL | INT4, with two inputs more, of zeros |
| depthwise | DEPTHWISE_CONV_2D | FLOAT32; FLOAT16 or INT8, and DEQUANTIZE |
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from asr_qat.layers.convolution import CausalDepthwiseConvolution
from asr_qat.layers.dense import Dense
from asr_qat.quantization.quantizers import (
    Float16Product,
    FloatProduct,
    FourBitProduct,
    IntegerProduct,
    StaticProduct,
    WeightOnlyProduct,
)

from .dense_lowering import DenseLowering, DynamicLowering, FourBitLowering, StaticLowering
from .flatbuffer import ExportError, indices
from .graph import Graph
from .int_weights import storage_bits
from .storage import (
    DequantizedStorage,
    Float16Storage,
    FloatStorage,
    IntegerStorage,
    Layout,
)


class DepthwiseLowering:
    """DEPTHWISE_CONV_2D with a kernel ``[taps, channels]``."""

    def __init__(self, layer: Any, storage: Any):
        self.layer, self.path, self.storage = layer, layer.path, storage
        self.traced_shape = tuple(layer.kernel.shape)

    def trace(self, frames, weight):
        """``[1, time + taps - 1, channels]`` -> ``[1, time, channels]``."""
        kernel = tf.reshape(weight, (1, *self.traced_shape, 1))
        y = tf.nn.depthwise_conv2d(tf.expand_dims(frames, 1), kernel, (1, 1, 1, 1), "VALID")
        return tf.squeeze(y, 1)

    def place(self, graph: Graph, weight: int) -> None:
        """Makes the weight, in the shape that the operator reads, the stored one."""
        shape = (1, 1, *self.traced_shape)
        layout = Layout(lambda kernel: kernel.reshape(shape), axis=3)
        for reshape in graph.readers(weight):
            if graph.name(reshape) != "RESHAPE":
                raise ExportError(
                    f"{self.path}: its kernel is read by {graph.name(reshape)}; expected RESHAPE "
                    "and DEPTHWISE_CONV_2D"
                )
            graph.remove(reshape)
            graph.graph.tensors[indices(reshape.outputs)[0]].name = self.path.encode()
            self.storage.store(graph, indices(reshape.outputs)[0], layout)


LOWERINGS: dict[type, tuple[type, type]] = {
    FloatProduct: (DenseLowering, FloatStorage),
    Float16Product: (DenseLowering, Float16Storage),
    WeightOnlyProduct: (DenseLowering, DequantizedStorage),
    IntegerProduct: (DynamicLowering, IntegerStorage),
    StaticProduct: (StaticLowering, IntegerStorage),
    FourBitProduct: (FourBitLowering, IntegerStorage),
}

Lowering = Any


def lowering(layer: Any) -> Lowering:
    """How a layer stands in a file.

    Raises:
        ExportError: its width does not fit its bits.
    """
    if isinstance(layer, CausalDepthwiseConvolution):
        return DepthwiseLowering(layer, _depthwise_storage(layer))
    if layer.spec.weight is not None:
        _check_width(layer)
    kind, storage = LOWERINGS[type(layer.product)]
    return kind(layer, storage(layer))


def _depthwise_storage(layer):
    if layer.spec.weight is not None:
        return DequantizedStorage(layer)
    return Float16Storage(layer) if layer.spec.storage == "float16" else FloatStorage(layer)


def _check_width(layer):
    per_byte = 8 // storage_bits(layer.spec.weight.bits)
    if layer.kernel.shape[0] % per_byte:
        raise ExportError(
            f"{layer.path}: a {layer.spec.weight.bits}-bit weight needs a number of inputs "
            f"divisible by {per_byte}, received {layer.kernel.shape[0]}: XNNPACK would leave the "
            "layer to a kernel that quantizes activations differently from training; change the "
            "layer's width or its bits"
        )


def weighted_layers(model: keras.layers.Layer) -> list[Any]:
    """The layers of a model whose weights have a recipe, in order of their paths."""
    kinds = (Dense, CausalDepthwiseConvolution)
    found = [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]
    return sorted(found, key=lambda layer: layer.path)


def lowerings_of(layers: Iterable[Any]) -> list[Lowering]:
    """The lowering of each layer.

    Raises:
        ExportError: a width does not fit its bits, or two layers have the same path.
    """
    layers = list(layers)
    counts = Counter(layer.path for layer in layers)
    twice = [path for path, count in counts.items() if count > 1]
    if twice:
        raise ExportError(
            f"several layers have the path {twice[0]!r}; expected a path for each, by which the "
            "file names their weights: give the layers, or the models that they are in, names"
        )
    return [lowering(layer) for layer in layers]
