"""Editing one subgraph of a .tflite file: constants, operators before and after others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .flatbuffer import ExportError, has_data, indices, operator_name, text

TYPE_OF = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}


def per_channel(scale: np.ndarray, axis: int = 0) -> schema.QuantizationParametersT:
    """Symmetric scales along an axis."""
    return _quantization(scale, np.zeros(len(scale), np.int64), axis)


def per_tensor(scale: float, zero_point: int) -> schema.QuantizationParametersT:
    """One scale and zero point for the whole tensor."""
    return _quantization(np.array([scale], np.float32), np.array([zero_point], np.int64), 0)


def _quantization(scale, zero_point, axis):
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = scale, zero_point
    quantization.quantizedDimension = axis
    return quantization


class Buffers:
    """The constant buffers of a model; one key, one buffer, however often it is asked for."""

    def __init__(self, model: schema.ModelT):
        self.model = model
        self._places: dict[str, int] = {}

    def place(self, key: str, data: np.ndarray) -> int:
        """The index of the buffer of that key, made from the data if it is new."""
        if key not in self._places:
            buffer = schema.BufferT()
            buffer.data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
            self.model.buffers.append(buffer)
            self._places[key] = len(self.model.buffers) - 1
        return self._places[key]


class Graph:
    """One subgraph; edits keep the operators in an order in which they can run."""

    def __init__(self, model: schema.ModelT, index: int, buffers: Buffers):
        self.model, self.graph, self.buffers = model, model.subgraphs[index], buffers
        self.graph.operators = list(self.graph.operators or [])

    def name(self, op: schema.OperatorT) -> str:
        """The operator's name, such as FULLY_CONNECTED."""
        return operator_name(self.model.operatorCodes[op.opcodeIndex])

    def readers(self, tensor: int) -> list[schema.OperatorT]:
        """The operators that read a tensor."""
        return [op for op in self.graph.operators if tensor in indices(op.inputs)]

    def shape(self, tensor: int) -> list[int]:
        """The shape of a tensor."""
        return indices(self.graph.tensors[tensor].shape)

    def is_constant(self, tensor: int) -> bool:
        """Whether the tensor is stored in the file."""
        return has_data(self.model.buffers[self.graph.tensors[tensor].buffer])

    def label(self, tensor: int) -> str:
        """The tensor's name."""
        return text(self.graph.tensors[tensor].name)

    def tensor(self, name: str, shape: Sequence[int], kind: int, quantization=None) -> int:
        """Adds a tensor that is computed; returns its index."""
        t = schema.TensorT()
        t.name, t.shape, t.type, t.buffer = name.encode(), list(shape), kind, 0
        t.quantization = quantization
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def like(self, tensor: int, name: str, kind: int, quantization=None) -> int:
        """Adds a tensor of the same shape as another, dynamic axes included."""
        added = self.tensor(name, self.shape(tensor), kind, quantization)
        self.graph.tensors[added].shapeSignature = self.graph.tensors[tensor].shapeSignature
        return added

    def store(
        self, tensor: int, key: str, data: np.ndarray, kind: int | None = None, quantization=None
    ) -> None:
        """Makes a tensor a constant.

        Args:
            tensor: its index; its shape stays.
            key: constants with the same key share their bytes.
            data: an array, or packed bytes.
            kind: TFLite type; by default that of the array.
            quantization: scales and zero points.
        """
        t = self.graph.tensors[tensor]
        t.buffer = self.buffers.place(key, data)
        t.type = TYPE_OF[data.dtype] if kind is None else kind
        t.quantization = quantization

    def before_dequantize(self, tensor: int, kind: int, version: int) -> int:
        """A new tensor of which DEQUANTIZE, in front of all else, makes the given one."""
        stored = self.like(tensor, self.label(tensor), kind)
        operator = self.operator("DEQUANTIZE", [stored], [tensor], version)
        self.graph.operators.insert(0, operator)
        return stored

    def operator(self, name: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1):
        """A new operator, not yet in the graph."""
        op = schema.OperatorT()
        op.opcodeIndex = self.opcode(name, version)
        op.inputs, op.outputs = list(inputs), list(outputs)
        return op

    def opcode(self, name: str, version: int) -> int:
        """The index of an operator code, added if it is new."""
        builtin = getattr(schema.BuiltinOperator, name)
        for index, code in enumerate(self.model.operatorCodes):
            if (code.builtinCode, code.version) == (builtin, version):
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = builtin, version
        code.deprecatedBuiltinCode = min(builtin, 127)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def insert_before(self, op: schema.OperatorT, new: schema.OperatorT) -> None:
        """Puts an operator in front of another."""
        self.graph.operators.insert(self._place(op), new)

    def insert_after(self, op: schema.OperatorT, new: schema.OperatorT) -> None:
        """Puts an operator behind another."""
        self.graph.operators.insert(self._place(op) + 1, new)

    def remove(self, op: schema.OperatorT) -> None:
        """Takes an operator out."""
        del self.graph.operators[self._place(op)]

    def _place(self, op):
        return next(i for i, other in enumerate(self.graph.operators) if other is op)

    def only_reader(self, tensor: int) -> schema.OperatorT | None:
        """The operator that alone reads a tensor, if the tensor is no output of the graph."""
        readers = self.readers(tensor)
        alone = len(readers) == 1 and tensor not in indices(self.graph.outputs)
        return readers[0] if alone else None


def set_options(op: schema.OperatorT, options: Any) -> None:
    """Gives an operator its options (an object such as `FullyConnectedOptionsT`)."""
    kind = type(options).__name__.removesuffix("T")
    op.builtinOptions, op.builtinOptionsType = options, getattr(schema.BuiltinOptions, kind)


def as_fully_connected(graph: Graph, weight: int, path: str) -> list[schema.OperatorT]:
    """Makes the products that read a weight ``[out, in]`` FULLY_CONNECTED, biases fused.

    The converter turns a product with a weight that it does not know into BATCH_MATMUL (for more
    than two axes) or FULLY_CONNECTED, followed by ADD for a bias.

    Raises:
        ExportError: something else reads the weight.
    """
    products = graph.readers(weight)
    for op in products:
        name, inputs = graph.name(op), indices(op.inputs)
        if name not in ("BATCH_MATMUL", "FULLY_CONNECTED") or inputs[1] != weight:
            raise ExportError(
                f"{path}: its weight is read by {name}; expected a matrix product. The layer's "
                "product was not what its recipe computes"
            )
        if name == "BATCH_MATMUL":
            op.opcodeIndex = graph.opcode("FULLY_CONNECTED", 5)
            op.inputs = [inputs[0], weight, -1]
            options = schema.FullyConnectedOptionsT()
            options.keepNumDims = True
            set_options(op, options)
        _fuse_bias(graph, op)
    return products


def _fuse_bias(graph: Graph, op: schema.OperatorT) -> None:
    """Takes a following addition of one constant for each channel into the product."""
    product = indices(op.outputs)[0]
    add = graph.only_reader(product)
    if add is None or graph.name(add) != "ADD" or indices(op.inputs)[2:] not in ([], [-1]):
        return
    other = next(i for i in indices(add.inputs) if i != product)
    channels, shape = graph.shape(product)[-1], graph.shape(other)
    if not graph.is_constant(other) or int(np.prod(shape)) != channels:
        return
    if channels > 1 and shape[-1] != channels:  # a constant for each row
        return
    bias = graph.tensor(graph.label(other), [channels], schema.TensorType.FLOAT32)
    graph.graph.tensors[bias].buffer = graph.graph.tensors[other].buffer
    op.inputs = [*indices(op.inputs)[:2], bias]
    op.outputs = list(indices(add.outputs))
    op.builtinOptions.fusedActivationFunction = add.builtinOptions.fusedActivationFunction
    graph.remove(add)
