"""One FULLY_CONNECTED layer as a .tflite file of its own, to be run on any kernel."""

import enum
import platform

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from .flatbuffer import write_model
from .int_weights import TENSOR_TYPES, pack_codes, storage_bits


class Target(enum.Enum):
    """Whose arithmetic: the kernels differ in how rows are quantized and results are rounded."""

    XNNPACK_X86 = "xnnpack_x86"
    XNNPACK_ARM64 = "xnnpack_arm64"
    BUILTIN = "builtin"

    @classmethod
    def here(cls, activation: str, bits: int = 4) -> "Target":
        """The target on this machine of an activation mode; 2-bit kernels are alike everywhere."""
        if activation == "symmetric_rows":
            return cls.BUILTIN
        arm = platform.machine().lower() in ("aarch64", "arm64")
        return cls.XNNPACK_ARM64 if arm and bits > 2 else cls.XNNPACK_X86

    def interpreter(self, content: bytes) -> Interpreter:
        """An interpreter of a file on this target's kernels."""
        kernels = {}
        if self is Target.BUILTIN:
            resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            kernels = {"experimental_op_resolver_type": resolver}
        return Interpreter(model_content=content, num_threads=1, **kernels)


def layer_file(codes: np.ndarray, scale: np.ndarray, bias: np.ndarray, bits: int, rows: int):
    """The bytes of a file: float32 ``[rows, in]`` -> float32 ``[rows, out]``.

    Args:
        codes: int8 ``[out, in]``.
        scale: float32 ``[out]``.
        bias: float32 ``[out]``.
        bits: of the codes.
        rows: of the input.
    """
    channels, width = codes.shape
    weight = schema.QuantizationParametersT()
    weight.scale, weight.zeroPoint = scale, np.zeros(channels, np.int64)
    weight.quantizedDimension = 0

    def tensor(name, shape, kind, buffer, quantization=None):
        t = schema.TensorT()
        t.name, t.shape, t.type, t.buffer, t.quantization = name, shape, kind, buffer, quantization
        return t

    float32 = schema.TensorType.FLOAT32
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor(b"x", [rows, width], float32, 0),
        tensor(b"w", [channels, width], TENSOR_TYPES[storage_bits(bits)], 1, weight),
        tensor(b"b", [channels], float32, 2),
        tensor(b"y", [rows, channels], float32, 0),
    ]
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = 0, [0, 1, 2], [3]
    op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    op.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators, graph.inputs, graph.outputs = [op], [0], [3]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 12
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    model.buffers = [schema.BufferT() for _ in range(3)]
    model.buffers[1].data = pack_codes(np.ascontiguousarray(codes), bits)
    model.buffers[2].data = bias.astype(np.float32).view(np.uint8)
    return write_model(model)


def run_file(content: bytes, x: np.ndarray, target: Target) -> np.ndarray:
    """Runs a one-input, one-output file on the target's kernels."""
    interpreter = target.interpreter(content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def accumulators(
    codes: np.ndarray, bits: int, x: np.ndarray, row_scale: np.ndarray, target: Target
) -> np.ndarray:
    """The int32 accumulators that the kernel computes for these weights and rows.

    With every weight scale 1 and no bias the kernel returns accumulator x row scale, rounded
    once; an accumulator below 2^24 is the nearest integer of that over the row scale.

    Args:
        codes: int8 ``[out, in]``.
        bits: of the codes.
        x: float32 ``[rows, in]``.
        row_scale: float32 ``[rows, 1]``, of the quantized rows.
        target: the kernels.
    """
    channels = len(codes)
    ones, nothing = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    y = run_file(layer_file(codes, ones, nothing, bits, len(x)), x, target)
    return np.rint(y.astype(np.float64) / row_scale.astype(np.float64)).astype(np.int64)


def row_codes(bits: int, x: np.ndarray, row_scale: np.ndarray, target: Target) -> np.ndarray:
    """The rows' codes less zero point, as the kernel quantizes them: an identity's accumulators."""
    identity = np.eye(x.shape[1], dtype=np.int8)
    return accumulators(identity, bits, x, row_scale, target)


def epilogue(
    accumulator: np.ndarray, row_scale: np.ndarray, scale: np.ndarray, bias: np.ndarray, target
) -> np.ndarray:
    """What the target makes of accumulators, to the last bit (docs/numerics.md).

    Args:
        accumulator: int32 ``[rows, out]``.
        row_scale: float32 ``[rows, 1]``.
        scale: float32 ``[out]``.
        bias: float32 ``[out]``.
        target: the kernels.

    Returns:
        float32 ``[rows, out]``.
    """
    acc = accumulator.astype(np.float32)
    if target is Target.XNNPACK_X86:
        scaled = acc * row_scale
        # float64 holds the product exactly, so the sum below rounds once, as a fused product does.
        return (scaled.astype(np.float64) * scale + bias).astype(np.float32)
    return acc * (row_scale * scale).astype(np.float32) + bias
