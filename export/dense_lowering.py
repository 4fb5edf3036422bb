"""FULLY_CONNECTED in its three forms: as it is, between int8 tensors, and on 4-bit rows."""

from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from keras import ops

from asr_qat.quantization.integers import QUIETEST_ROW

from .flatbuffer import indices
from .four_bit import ROUNDING, SENTINELS
from .graph import Graph, as_fully_connected, per_channel, per_tensor
from .storage import Layout


class DenseLowering:
    """A product; by the type of its weight the kernel knows how to multiply."""

    def __init__(self, layer: Any, storage: Any):
        self.layer, self.path, self.storage = layer, layer.path, storage
        inputs, channels = layer.kernel.shape
        self.traced_shape = (channels, inputs)

    def trace(self, x, weight, bias=None, training=False):
        """The product in TensorFlow operators; weight ``[out, in]``."""
        y = tf.matmul(x, weight, transpose_b=True)
        return y if bias is None else y + bias

    def place(self, graph: Graph, weight: int) -> None:
        """Makes the weight input of a converted graph the stored weight."""
        as_fully_connected(graph, weight, self.path)
        self.storage.store(graph, weight)


class DynamicLowering(DenseLowering):
    """Integer weights, and rows that the kernel quantizes.

    With ``asymmetric_quantize_inputs`` most kernels do it like XNNPACK, which does so anyway.
    """

    def place(self, graph, weight):
        """See `DenseLowering.place`."""
        for op in as_fully_connected(graph, weight, self.path):
            asymmetric = self.layer.spec.activation == "asymmetric_rows"
            op.builtinOptions.asymmetricQuantizeInputs = asymmetric
        self.storage.store(graph, weight)


class FourBitLowering(DenseLowering):
    """Rows that float operators turn into 4-bit codes, which the dynamic kernel leaves as they are.

    Two constants beside the codes make the kernel's own quantization the identity
    (docs/numerics.md); their weights are zero.
    """

    def __init__(self, layer, storage):
        super().__init__(layer, storage)
        inputs, channels = layer.kernel.shape
        self.traced_shape = (channels, inputs + len(SENTINELS))

    def trace(self, x, weight, bias=None, training=False):
        """The product in TensorFlow operators; weight ``[out, in + 2]``."""
        largest = tf.maximum(tf.reduce_max(tf.abs(x), -1, keepdims=True), QUIETEST_ROW)
        codes = (x * (7.0 / largest) + ROUNDING) - ROUNDING
        ends = tf.concat([tf.shape(x)[:-1], [len(SENTINELS)]], 0)
        codes = tf.concat([codes, tf.broadcast_to(SENTINELS, ends)], -1)
        y = tf.matmul(codes, weight, transpose_b=True) * (largest * np.float32(1 / 7))
        return y if bias is None else y + bias

    def place(self, graph, weight):
        """See `DenseLowering.place`."""
        for op in as_fully_connected(graph, weight, self.path):
            op.builtinOptions.asymmetricQuantizeInputs = True
        ends = ((0, len(SENTINELS)), (0, 0))
        self.storage.store(graph, weight, Layout(lambda codes: np.pad(codes, ends).T, 0))


class StaticLowering(DenseLowering):
    """QUANTIZE, a product from int8 to int8, DEQUANTIZE."""

    def place(self, graph, weight):
        """See `DenseLowering.place`."""
        bias = self.layer.bias if self.layer.use_bias else None
        frozen = self.layer.product.frozen(ops.convert_to_tensor(self.layer.kernel), bias)
        source, result = (
            per_tensor(float(a.scale), int(a.zero_point)) for a in (frozen.input, frozen.output)
        )
        unit = np.float32(frozen.input.scale) * ops.convert_to_numpy(frozen.scale)
        for op in as_fully_connected(graph, weight, self.path):
            x, y = indices(op.inputs)[0], indices(op.outputs)[0]
            codes = graph.like(x, f"{self.path}/input", schema.TensorType.INT8, source)
            graph.insert_before(op, graph.operator("QUANTIZE", [x], [codes], version=1))
            coded = graph.like(y, f"{self.path}/result", schema.TensorType.INT8, result)
            graph.insert_after(op, graph.operator("DEQUANTIZE", [coded], [y], version=2))
            op.inputs, op.outputs = [codes, weight, -1], [coded]
            if bias is not None:
                offset = graph.tensor(f"{self.path}/bias", [len(unit)], schema.TensorType.INT32)
                values = ops.convert_to_numpy(frozen.bias)
                graph.store(offset, f"{self.path}/bias", values, quantization=per_channel(unit))
                op.inputs = [codes, weight, offset]
        self.storage.store(graph, weight)
