"""One product as a .tflite file of its own, to be run on any engine: one function per recipe."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from asr_qat.quantization.integers import QUIETEST_ROW

from ..flatbuffer import write_model
from ..four_bit import ROUNDING, SENTINELS
from ..graph import TYPE_OF, Buffers, Graph, per_channel, per_tensor, set_options
from ..int_weights import TENSOR_TYPES, pack_codes, storage_bits

FLOAT32, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8
VERSIONS = {"FULLY_CONNECTED": 12, "DEQUANTIZE": 6, "QUANTIZE": 2}  # others: 1


class Affine(NamedTuple):
    """Scale and zero point of an int8 tensor."""

    scale: float  # of float32
    zero_point: int


class _File(Graph):
    """An empty model that grows operator by operator."""

    def __init__(self) -> None:
        model = schema.ModelT()
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = [], []
        model.version, model.subgraphs, model.operatorCodes = 3, [subgraph], []
        model.buffers = [schema.BufferT()]
        super().__init__(model, 0, Buffers(model))

    def computed(self, shape: Sequence[int], kind: int = FLOAT32, quantization: Any = None) -> int:
        return self.tensor(f"t{len(self.graph.tensors)}", shape, kind, quantization)

    def stored(self, value: Any, kind=None, quantization: Any = None, shape=None) -> int:
        value = np.ascontiguousarray(value)
        index = self.computed(value.shape if shape is None else shape)
        kind = TYPE_OF[value.dtype] if kind is None else kind
        self.store(index, f"c{index}", value, kind, quantization)
        return index

    def apply(self, name: str, inputs: Sequence[int], output: int, options: Any = None) -> int:
        op = super().operator(name, inputs, [output], VERSIONS.get(name, 1))
        if options is not None:
            set_options(op, options)
        self.graph.operators.append(op)
        return output

    def weight(self, codes: np.ndarray, scale: np.ndarray, bits: int) -> int:
        packed = pack_codes(np.ascontiguousarray(codes), bits)
        kind = TENSOR_TYPES[storage_bits(bits)]
        return self.stored(packed, kind, per_channel(scale), codes.shape)

    def content(self, source: int, result: int) -> bytes:
        self.graph.inputs, self.graph.outputs = [source], [result]
        return write_model(self.model)


def layer_file(
    codes: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    bits: int,
    rows: int,
    asymmetric: bool = False,
) -> bytes:
    """A dynamic product, float32 ``[rows, in]`` -> float32 ``[rows, out]``.

    Args:
        codes: int8 ``[out, in]``.
        scale: float32 ``[out]``.
        bias: float32 ``[out]``.
        bits: of the codes.
        rows: of the input.
        asymmetric: the operator's ``asymmetric_quantize_inputs``.
    """
    file = _File()
    channels, width = codes.shape
    x = file.computed([rows, width])
    inputs = [x, file.weight(codes, scale, bits), file.stored(bias)]
    y = file.computed([rows, channels])
    return file.content(x, file.apply("FULLY_CONNECTED", inputs, y, _product(asymmetric)))


def _product(asymmetric: bool = False) -> schema.FullyConnectedOptionsT:
    options = schema.FullyConnectedOptionsT()
    options.asymmetricQuantizeInputs = asymmetric
    return options


def float_file(
    weight: np.ndarray, scale: np.ndarray | None, bias: np.ndarray, bits: int, rows: int
) -> bytes:
    """A product in float32 with stored weights of any kind, which DEQUANTIZE makes float32.

    Args:
        weight: float32 or float16 ``[out, in]``, or codes, int8.
        scale: float32 ``[out]`` of codes.
        bias: float32 ``[out]``.
        bits: of codes.
        rows: of the input.
    """
    file = _File()
    channels, width = weight.shape
    x = file.computed([rows, width])
    w = file.stored(weight) if scale is None else file.weight(weight, scale, bits)
    if weight.dtype != np.float32:
        options = schema.DequantizeOptionsT()
        w = file.apply("DEQUANTIZE", [w], file.computed(weight.shape), options)
    y = file.computed([rows, channels])
    return file.content(x, file.apply("FULLY_CONNECTED", [x, w, file.stored(bias)], y, _product()))


def four_bit_file(
    codes: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray | None,
    rows: int,
    asymmetric: bool = True,
) -> bytes:
    """A product of rows of 4-bit codes, float32 ``[rows, in]`` -> float32 ``[rows, out]``.

    Args:
        codes: int8 ``[out, in]``.
        scale: float32 ``[out]``.
        bias: float32 ``[out]``; None leaves the row's scale out too: the product of the codes.
        rows: of the input.
        asymmetric: the operator's ``asymmetric_quantize_inputs``.
    """
    file = _File()
    channels, width = codes.shape
    x, keep, one = file.computed([rows, width]), schema.ReducerOptionsT(), [rows, 1]
    keep.keepDims = True

    def number(value):
        return file.stored(np.array([value], np.float32))

    size = file.apply("ABS", [x], file.computed([rows, width]), schema.AbsOptionsT())
    axis = file.stored(np.array([1], np.int32))
    largest = file.apply("REDUCE_MAX", [size, axis], file.computed(one), keep)
    largest = file.apply(
        "MAXIMUM",
        [largest, number(QUIETEST_ROW)],
        file.computed(one),
        schema.MaximumMinimumOptionsT(),
    )
    per_unit = file.apply("DIV", [number(7), largest], file.computed(one), schema.DivOptionsT())
    wide = [rows, width]
    a = file.apply("MUL", [x, per_unit], file.computed(wide), schema.MulOptionsT())
    a = file.apply("ADD", [a, number(ROUNDING)], file.computed(wide), schema.AddOptionsT())
    a = file.apply("SUB", [a, number(ROUNDING)], file.computed(wide), schema.SubOptionsT())
    join = schema.ConcatenationOptionsT()
    join.axis = 1
    ends = file.stored(np.tile(SENTINELS, (rows, 1)))
    a = file.apply("CONCATENATION", [a, ends], file.computed([rows, width + 2]), join)
    w = file.weight(np.pad(codes, ((0, 0), (0, 2))), scale, 4)
    narrow = [rows, channels]
    y = file.apply("FULLY_CONNECTED", [a, w, -1], file.computed(narrow), _product(asymmetric))
    if bias is None:
        return file.content(x, y)
    step = file.apply(
        "MUL", [largest, number(np.float32(1 / 7))], file.computed(one), schema.MulOptionsT()
    )
    y = file.apply("MUL", [y, step], file.computed(narrow), schema.MulOptionsT())
    y = file.apply("ADD", [y, file.stored(bias)], file.computed(narrow), schema.AddOptionsT())
    return file.content(x, y)


def quantize_file(shape: Sequence[int], to: Affine) -> bytes:
    """QUANTIZE alone, float32 -> int8 of the same shape."""
    file = _File()
    x = file.computed(shape)
    y = file.computed(shape, INT8, per_tensor(to.scale, to.zero_point))
    return file.content(x, file.apply("QUANTIZE", [x], y, schema.QuantizeOptionsT()))


def static_file(
    codes: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    bits: int,
    rows: int,
    source: Affine,
    result: Affine,
    dequantized: bool = True,
) -> bytes:
    """A static product, float32 ``[rows, in]`` -> float32 or int8 ``[rows, out]``.

    Args:
        codes: int8 ``[out, in]``.
        scale: float32 ``[out]``.
        bias: int32 ``[out]``.
        bits: of the codes.
        rows: of the input.
        source: of the input's int8 codes.
        result: of the result's.
        dequantized: float32 results; otherwise their codes.
    """
    file = _File()
    channels, width = codes.shape
    x = file.computed([rows, width])
    a = file.computed([rows, width], INT8, per_tensor(source.scale, source.zero_point))
    a = file.apply("QUANTIZE", [x], a, schema.QuantizeOptionsT())
    offset = file.stored(bias, None, per_channel(np.float32(source.scale) * scale))
    y = file.computed([rows, channels], INT8, per_tensor(result.scale, result.zero_point))
    y = file.apply("FULLY_CONNECTED", [a, file.weight(codes, scale, bits), offset], y, _product())
    if dequantized:
        options = schema.DequantizeOptionsT()
        y = file.apply("DEQUANTIZE", [y], file.computed([rows, channels]), options)
    return file.content(x, y)
