"""What a weight is stored as: float32, float16, or packed integers with their scales.

A storage gets the layer's kernel ``[in, out]``; where and how it lies in the file (transposed,
say) is the business of the `Layout`, which a lowering gives.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import ops

from .flatbuffer import ExportError
from .graph import Graph, per_channel
from .half import as_float16
from .int_weights import TENSOR_TYPES, IntegerWeight, pack_codes, storage_bits
from .trained_weights import integer_weight


class Layout(NamedTuple):
    """How a kernel lies in the file.

    Attributes:
        arrange: kernel or codes ``[in, out]`` -> the stored array.
        axis: of the stored array, along which the output channels are.
    """

    arrange: Callable[[np.ndarray], np.ndarray]
    axis: int


TRANSPOSED = Layout(np.transpose, 0)


class FloatStorage:
    """FLOAT32."""

    def __init__(self, layer: Any):
        self.layer, self.path = layer, layer.path

    def store(self, graph: Graph, tensor: int, layout: Layout = TRANSPOSED) -> None:
        """Makes the tensor the stored weight.

        Raises:
            ExportError: the weights are not finite.
        """
        graph.store(tensor, self.path, layout.arrange(self.values()))

    def values(self) -> np.ndarray:
        """The kernel, float32 ``[in, out]``."""
        kernel = ops.convert_to_numpy(self.layer.kernel)
        if not np.isfinite(kernel).all():
            raise ExportError(f"{self.path}: the weights are not finite; expected finite weights")
        return kernel


class Float16Storage(FloatStorage):
    """FLOAT16, and DEQUANTIZE before use."""

    def store(self, graph, tensor, layout=TRANSPOSED):
        """See `FloatStorage.store`."""
        values = as_float16(self.values())
        stored = graph.before_dequantize(tensor, schema.TensorType.FLOAT16, version=3)
        graph.store(stored, self.path, layout.arrange(values))


class IntegerStorage:
    """INT8, INT4 or INT2, with a scale for each output channel."""

    def __init__(self, layer: Any):
        self.layer, self.path = layer, layer.path
        self._weight: IntegerWeight | None = None

    @property
    def weight(self) -> IntegerWeight:
        """Codes and scales, computed once."""
        if self._weight is None:
            self._weight = integer_weight(self.layer)
        return self._weight

    def store(self, graph, tensor, layout=TRANSPOSED):
        """See `FloatStorage.store`."""
        bits = self.weight.bits
        graph.store(
            tensor,
            self.path,
            pack_codes(np.ascontiguousarray(layout.arrange(self.weight.codes)), bits),
            TENSOR_TYPES[storage_bits(bits)],
            per_channel(self.weight.scale, layout.axis),
        )


class DequantizedStorage(IntegerStorage):
    """The same integers, and DEQUANTIZE before use."""

    def store(self, graph, tensor, layout=TRANSPOSED):
        """See `FloatStorage.store`."""
        kind = TENSOR_TYPES[storage_bits(self.weight.bits)]
        super().store(graph, graph.before_dequantize(tensor, kind, version=2), layout)
