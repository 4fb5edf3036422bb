"""The products in a file: every FULLY_CONNECTED with the weights that it has stored."""

import dataclasses

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..flatbuffer import (
    buffer_bytes,
    has_data,
    indices,
    layer_of,
    operator_name,
    read_model,
)
from ..int_weights import TENSOR_TYPES, unpack_codes
from .one_layer import Affine

_BITS = {kind: bits for bits, kind in TENSOR_TYPES.items()}
_FLOATS = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.FLOAT16: np.dtype(np.float16),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredProduct:
    """One FULLY_CONNECTED of a file and its constants."""

    name: str  # of the weight tensor
    weight: np.ndarray  # [out, in]: int8 codes, or float32 or float16 values
    bits: int  # as stored, of one weight
    scale: np.ndarray | None  # float32 [out]; None: float weights
    dequantized: bool  # the weights pass DEQUANTIZE before the product
    bias: np.ndarray | None  # float32 or int32 [out]; None: no constant
    source: Affine | None  # of int8 inputs; None: float32
    result: Affine | None  # of int8 outputs
    asymmetric: bool  # the operator's asymmetric_quantize_inputs


class StoredWeights:
    """The products of a file, to be found by what their weights should be."""

    def __init__(self, content: bytes):
        model = read_model(content)
        self.products: list[StoredProduct] = []
        seen: set[tuple[int, int]] = set()
        for graph in model.subgraphs:
            reader = _Reader(model, graph)
            for op in graph.operators or []:
                if operator_name(model.operatorCodes[op.opcodeIndex]) != "FULLY_CONNECTED":
                    continue
                weight = reader.source_of(indices(op.inputs)[1])
                key = (graph.tensors[weight].buffer, graph.tensors[weight].type)
                if key in seen or not reader.is_constant(weight):
                    continue
                seen.add(key)
                product = reader.product(op, weight)
                if product is not None:
                    self.products.append(product)

    def nearest(self, path: str, weight: np.ndarray, bits: int) -> StoredProduct | None:
        """The product whose stored weight is most like this one, those named so first.

        Args:
            path: of the layer.
            weight: ``[out, in]``, of the type that should be stored.
            bits: as stored.
        """
        alike = [
            p
            for p in self.products
            if (p.weight.shape, p.weight.dtype, p.bits) == (weight.shape, weight.dtype, bits)
        ]
        named = [p for p in alike if p.name == path]
        differ = [int(np.sum(p.weight != weight)) for p in named or alike]
        return (named or alike)[int(np.argmin(differ))] if differ else None


class _Reader:
    """Reads constants of one subgraph."""

    def __init__(self, model, graph):
        self.model, self.graph = model, graph
        self.makers = {
            indices(op.outputs)[0]: indices(op.inputs)[0]
            for op in graph.operators or []
            if operator_name(model.operatorCodes[op.opcodeIndex]) == "DEQUANTIZE"
        }

    def source_of(self, tensor):
        """What DEQUANTIZE makes the tensor of, or the tensor."""
        return self.makers.get(tensor, tensor)

    def is_constant(self, tensor):
        return has_data(self.model.buffers[self.graph.tensors[tensor].buffer])

    def data(self, tensor):
        return buffer_bytes(self.model.buffers[self.graph.tensors[tensor].buffer])

    def product(self, op, weight):
        t, inputs = self.graph.tensors[weight], indices(op.inputs)
        shape, scale = indices(t.shape), None
        if t.type in _FLOATS:
            values = self.data(weight).view(_FLOATS[t.type]).reshape(shape)
            bits = 8 * values.dtype.itemsize
        elif t.type in _BITS and t.quantization is not None and t.quantization.scale is not None:
            bits, scale = _BITS[t.type], np.asarray(t.quantization.scale, np.float32)
            values = unpack_codes(self.data(weight), bits, shape)
        else:
            return None
        return StoredProduct(
            name=layer_of(t),
            weight=values,
            bits=bits,
            scale=scale,
            dequantized=weight != inputs[1],
            bias=self.bias(inputs),
            source=self.affine(inputs[0]),
            result=self.affine(indices(op.outputs)[0]),
            asymmetric=bool(op.builtinOptions and op.builtinOptions.asymmetricQuantizeInputs),
        )

    def bias(self, inputs):
        if len(inputs) < 3 or inputs[2] < 0 or not self.is_constant(inputs[2]):
            return None
        kind = self.graph.tensors[inputs[2]].type
        dtype = np.int32 if kind == schema.TensorType.INT32 else np.float32
        return self.data(inputs[2]).view(dtype)

    def affine(self, tensor):
        t = self.graph.tensors[tensor]
        if t.type != schema.TensorType.INT8 or t.quantization is None:
            return None
        return Affine(float(t.quantization.scale[0]), int(t.quantization.zeroPoint[0]))
