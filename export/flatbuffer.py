"""Reading and writing .tflite flatbuffers as objects.

A thin layer over LiteRT's own object API. It adds two things: constant buffers are written with
the 16-byte alignment that the schema asks for (`force_align: 16`), which the Python flatbuffer
builder ignores and which vector kernels rely on; and equal scales are written once.
"""

from collections.abc import Callable, Iterator

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

IDENTIFIER = b"TFL3"
SHARED_VALUES = 8  # vectors of up to so many values are shared
BUFFER_ALIGNMENT = 16  # bytes, `force_align` of Buffer.data in schema.fbs


class ExportError(ValueError):
    """The converted model cannot be made into the file that training promised."""


class _Builder(flatbuffers.Builder):
    """Aligns every vector of bytes like the C++ builder does for `force_align: 16`.

    Vectors that are asked for through `shared` are written once however often they occur.
    """

    def __init__(self, size: int):
        super().__init__(size)
        self._shared: dict[tuple, int] = {}

    def shared(self, key: tuple, make: Callable[[], int]) -> int:
        """The offset of what `make` writes, or of what it wrote for the same key before."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        """A vector; short ones, such as shapes, are written once."""
        if x.size > SHARED_VALUES:
            return super().CreateNumpyVector(x)
        return self.shared(
            (x.dtype.str, x.tobytes()), lambda: super(_Builder, self).CreateNumpyVector(x)
        )

    def StartVector(self, elemSize, numElems, alignment):
        """Starts a vector; byte vectors start on a 16-byte boundary."""
        wanted = max(alignment, BUFFER_ALIGNMENT) if elemSize == 1 else alignment
        return super().StartVector(elemSize, numElems, wanted)


def read_model(content: bytes) -> schema.ModelT:
    """Unpacks the bytes of a .tflite file into LiteRT's object form.

    Args:
      content: the whole file.

    Returns:
      The model; its buffers are read-only views of `content`.

    Raises:
      ExportError: `content` is not a TFLite flatbuffer.
    """
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise ExportError(
            f"not a .tflite file: expected the identifier {IDENTIFIER!r} at byte 4, "
            f"received {bytes(content[4:8])!r} in {len(content)} bytes"
        )
    return flatbuffer_utils.read_model_from_bytearray(content)


def write_model(model: schema.ModelT) -> bytes:
    """Packs a model object into the bytes of a .tflite file, constant buffers aligned."""
    stored = sum(len(b.data) + 64 for b in model.buffers if b.data is not None)
    builder = _Builder(stored + (1 << 16))
    for graph in model.subgraphs:
        for tensor in graph.tensors or []:  # as arrays, which the builder can share
            if tensor.shape is not None:
                tensor.shape = np.asarray(tensor.shape, np.int32)
    scaled = [
        (tensor, tensor.quantization)
        for graph in model.subgraphs
        for tensor in graph.tensors or []
        if tensor.quantization is not None and tensor.quantization.scale is not None
    ]
    for tensor, quantization in scaled:
        tensor.quantization = _SharedQuantization(quantization)
    try:
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    finally:
        for tensor, quantization in scaled:
            tensor.quantization = quantization
    return bytes(builder.Output())


class _SharedQuantization:
    """Writes scales and zero points once, however many tensors and signatures have the same.

    Every signature has its own tensor for a weight, each with 12 bytes a channel of scales and
    zero points: a tenth of a small 4-bit file.
    """

    def __init__(self, quantization: schema.QuantizationParametersT):
        self.quantization = quantization

    def Pack(self, builder: _Builder) -> int:
        """As the object API's."""
        q = self.quantization
        unusual = (q.min, q.max, q.details)
        if q.zeroPoint is None or any(part is not None for part in unusual):
            return q.Pack(builder)
        scale = np.asarray(q.scale, np.float32)
        zero = np.asarray(q.zeroPoint, np.int64)
        axis = q.quantizedDimension
        return builder.shared(
            (scale.tobytes(), zero.tobytes(), axis),
            lambda: self._write(
                builder,
                builder.shared(
                    ("scale", scale.tobytes()), lambda: builder.CreateNumpyVector(scale)
                ),
                builder.shared(("zero", zero.tobytes()), lambda: builder.CreateNumpyVector(zero)),
                axis,
            ),
        )

    @staticmethod
    def _write(builder, scale, zero, axis):
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, zero)
        schema.QuantizationParametersAddQuantizedDimension(builder, axis)
        return schema.QuantizationParametersEnd(builder)


def has_data(buffer: schema.BufferT) -> bool:
    """True if the buffer holds constant bytes (an absent or empty one marks an activation)."""
    return buffer.data is not None and len(buffer.data) > 0


def buffer_bytes(buffer: schema.BufferT) -> np.ndarray:
    """The buffer's bytes as a flat uint8 array (empty for an activation's buffer)."""
    if not has_data(buffer):
        return np.zeros(0, np.uint8)
    return (
        np.frombuffer(bytes(buffer.data), np.uint8)
        if isinstance(buffer.data, (bytes, bytearray, list))
        else np.asarray(buffer.data).view(np.uint8).reshape(-1)
    )


def text(name: bytes | str | None) -> str:
    """A flatbuffer string as Python text ("" when absent)."""
    if name is None:
        return ""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


NUMBERED = "@"  # before the number of a tensor whose name another one has


def layer_of(tensor: schema.TensorT) -> str:
    """The path of the layer whose weight a tensor is: its name, less its number."""
    name = text(tensor.name)
    path, mark, number = name.rpartition(NUMBERED)
    return path if mark and number.isdecimal() else name


def indices(values) -> list[int]:
    """A flatbuffer index vector (list, array or absent) as a list of ints."""
    return [] if values is None else [int(v) for v in values]


def _names(enum: type) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if not k.startswith("_") and isinstance(v, int)}


OPERATOR_NAMES = _names(schema.BuiltinOperator)
TENSOR_TYPE_NAMES = _names(schema.TensorType)


def operator_name(code: schema.OperatorCodeT) -> str:
    """The name of an operator code, e.g. "FULLY_CONNECTED", "CUSTOM:FlexErf"."""
    builtin = flatbuffer_utils.get_builtin_code_from_operator_code(code)
    name = OPERATOR_NAMES.get(builtin, f"BUILTIN_{builtin}")
    return f"CUSTOM:{text(code.customCode)}" if name == "CUSTOM" else name


def operators(model: schema.ModelT) -> Iterator[tuple[int, schema.OperatorT, str]]:
    """Yields (subgraph index, operator, operator name) for every operator of the model."""
    for index, graph in enumerate(model.subgraphs):
        for op in graph.operators or []:
            yield index, op, operator_name(model.operatorCodes[op.opcodeIndex])


def list_operators(content: bytes) -> list[list[str]]:
    """Names of the operators of every subgraph of a .tflite file, in execution order."""
    model = read_model(content)
    names: list[list[str]] = [[] for _ in model.subgraphs]
    for index, _, name in operators(model):
        names[index].append(name)
    return names


def assert_builtin_only(content: bytes) -> None:
    """Checks that a .tflite file needs no custom and no Flex (SELECT_TF_OPS) kernels.

    Raises:
      ExportError: naming each such operator and how often it occurs.
    """
    found: dict[str, int] = {}
    for graph in list_operators(content):
        for name in graph:
            if name.startswith(("CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER")):
                found[name] = found.get(name, 0) + 1
    if found:
        listed = ", ".join(f"{name} x{count}" for name, count in sorted(found.items()))
        raise ExportError(
            f"the file needs operators outside TFLite's builtin set: {listed}; expected builtin "
            "operators only. Replace the Keras or TensorFlow op that produces them"
        )
