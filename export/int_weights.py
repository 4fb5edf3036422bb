"""Puts the trained integers into a converted .tflite file.

The converter sees the float twin, whose weights are the dequantized codes W' = q * scale. Each of
those constants is found again in the flatbuffer by its exact value and replaced by the packed
codes with the trained scales; nothing is derived a second time.

    stored[c, k] = q[k, c]      packed row-major, low bits first, quantized_dimension 0 (channel c)
"""

import collections
import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .flatbuffer import (
    ExportError,
    assert_builtin_only,
    buffer_bytes,
    has_data,
    indices,
    list_operators,
    operators,
    read_model,
    text,
    write_model,
)

__all__ = [
    "ExportError",
    "IntegerWeight",
    "assert_builtin_only",
    "list_operators",
    "pack_codes",
    "rewrite",
    "storage_bits",
    "unpack_codes",
]

TENSOR_TYPES = {2: schema.TensorType.INT2, 4: schema.TensorType.INT4, 8: schema.TensorType.INT8}
_STORAGE_BITS = {2: 2, 4: 4, 6: 8, 8: 8}  # TFLite has no 6-bit type


@dataclass(frozen=True)
class IntegerWeight:
    """One quantized weight matrix, as the training step multiplied it."""

    path: str  # layer path, for messages
    codes: np.ndarray  # int8 [in, out], within +-(2^(bits-1) - 1)
    scale: np.ndarray  # float32 [out]
    bits: int  # 2, 4, 6 (stored as 8) or 8
    dequantized: np.ndarray  # float32 [in, out], exactly the constant of the float twin


def storage_bits(bits: int) -> int:
    """Bits that one code of a `bits`-wide weight occupies in the file (6 is stored as 8).

    Raises:
      ExportError: no such width.
    """
    if bits not in _STORAGE_BITS:
        raise ExportError(f"no integer weights of {bits} bits: expected 2, 4, 6 or 8")
    return _STORAGE_BITS[bits]


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Packs integer codes like TFLite stores them: flat row-major, low bits first.

    Args:
      codes: int8 [out, in] (any shape; flattened in C order), each within `bits` bits.
      bits: 2, 4, 6 or 8; 6 is stored as 8.

    Returns:
      uint8 [ceil(codes.size * storage_bits / 8)]; unused high bits of the last byte are zero.

    Raises:
      ExportError: wrong dtype, unknown width or a code outside the width's range.
    """
    stored = storage_bits(bits)
    if codes.dtype != np.int8:
        raise ExportError(f"codes must be int8, received {codes.dtype}")
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ExportError(
            f"codes of a {bits}-bit weight must lie in [{low}, {high}], "
            f"received [{codes.min()}, {codes.max()}]"
        )
    per_byte = 8 // stored
    flat = codes.reshape(-1).view(np.uint8) & np.uint8((1 << stored) - 1)
    flat = np.pad(flat, (0, -flat.size % per_byte)).reshape(-1, per_byte)
    packed = np.zeros(flat.shape[0], np.uint8)
    for position in range(per_byte):
        packed |= flat[:, position] << np.uint8(position * stored)
    return packed


def unpack_codes(packed: np.ndarray, bits: int, shape: Sequence[int]) -> np.ndarray:
    """The inverse of `pack_codes`.

    Args:
      packed: uint8, as stored in the file.
      bits: 2, 4, 6 or 8.
      shape: of the codes, usually [out, in].

    Returns:
      int8 codes of that shape.

    Raises:
      ExportError: the number of bytes does not fit the shape.
    """
    stored = storage_bits(bits)
    per_byte, count = 8 // stored, int(np.prod(shape))
    if packed.size != -(-count // per_byte):
        raise ExportError(
            f"{packed.size} bytes cannot hold {list(shape)} codes of {stored} bits: "
            f"expected {-(-count // per_byte)}"
        )
    # Shifting left inside int8 and back right extends the sign.
    fields = [
        (packed << np.uint8(8 - stored * (position + 1))).view(np.int8) >> np.int8(8 - stored)
        for position in range(per_byte)
    ]
    return np.stack(fields, axis=1).reshape(-1)[:count].reshape(shape)


def _check(weight: IntegerWeight) -> None:
    """Raises ExportError unless the weight is complete and consistent."""
    codes, scale, path = weight.codes, weight.scale, weight.path
    stored = storage_bits(weight.bits)
    if codes.ndim != 2 or codes.dtype != np.int8:
        raise ExportError(
            f"{path}: codes must be int8 [in, out], received {codes.dtype} {list(codes.shape)}"
        )
    if scale.shape != (codes.shape[1],) or scale.dtype != np.float32:
        raise ExportError(
            f"{path}: scale must be float32 [{codes.shape[1]}], received "
            f"{scale.dtype} {list(scale.shape)}"
        )
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ExportError(
            f"{path}: scales must be finite and positive, received [{scale.min()}, {scale.max()}]"
        )
    if weight.dequantized.shape != codes.shape or weight.dequantized.dtype != np.float32:
        raise ExportError(
            f"{path}: dequantized must be float32 {list(codes.shape)}, received "
            f"{weight.dequantized.dtype} {list(weight.dequantized.shape)}"
        )
    if codes.shape[0] % (8 // stored):
        raise ExportError(
            f"{path}: a {stored}-bit weight needs a number of inputs divisible by {8 // stored}, "
            f"received {codes.shape[0]}: XNNPACK would leave the layer to a kernel that quantizes "
            "activations differently from training; change the layer's width or its bits"
        )


def _key(matrix: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """Identity of a float32 matrix by value: shape and bytes, with -0 counted as +0."""
    return matrix.shape, np.ascontiguousarray(matrix + np.float32(0)).tobytes()


def _float_constants(model: schema.ModelT):
    """Yields (subgraph index, tensor index, tensor, float32 value) of 2-D float constants."""
    for g, graph in enumerate(model.subgraphs):
        for t, tensor in enumerate(graph.tensors):
            buffer = model.buffers[tensor.buffer]
            if tensor.type != schema.TensorType.FLOAT32 or not has_data(buffer):
                continue
            shape = indices(tensor.shape)
            if len(shape) == 2 and len(buffer.data) == 4 * shape[0] * shape[1]:
                yield g, t, tensor, buffer_bytes(buffer).view(np.float32).reshape(shape)


def _uses(model: schema.ModelT) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """(subgraph, tensor) -> the (operator name, input position) pairs that read it."""
    uses: dict[tuple[int, int], list[tuple[str, int]]] = collections.defaultdict(list)
    for g, op, name in operators(model):
        for position, tensor in enumerate(indices(op.inputs)):
            uses[g, tensor].append((name, position))
    for g, graph in enumerate(model.subgraphs):
        for tensor in indices(graph.outputs):
            uses[g, tensor].append(("OUTPUT", 0))
    return uses


def _quantize_tensor(tensor: schema.TensorT, weight: IntegerWeight, buffer: int) -> None:
    quantization = schema.QuantizationParametersT()
    quantization.scale = np.ascontiguousarray(weight.scale)
    quantization.zeroPoint = np.zeros(weight.scale.size, np.int64)
    quantization.quantizedDimension = 0
    tensor.quantization = quantization
    tensor.type = TENSOR_TYPES[storage_bits(weight.bits)]
    tensor.buffer = buffer


def _missing(model: schema.ModelT, missing: Sequence[IntegerWeight]) -> ExportError:
    """Explains weights whose dequantized value is not in the file."""
    uses = _uses(model)
    constants = list(_float_constants(model))
    lines = []
    for weight in missing:
        shape = weight.codes.shape
        upright = _key(weight.dequantized)
        causes = []
        for g, t, _, value in constants:
            if value.shape == shape and _key(value) == upright:
                readers = ", ".join(sorted({name for name, _ in uses[g, t]})) or "nothing"
                causes.append(
                    f"it is in the file as [in, out], read by {readers}: the converter "
                    "did not turn the product into FULLY_CONNECTED"
                )
                break
        else:
            same = sum(value.shape == shape[::-1] for _, _, _, value in constants)
            causes.append(
                f"{same} float constants have the shape {list(shape[::-1])} but other values: "
                "the converter may have folded a multiplication into the weight, the twin may "
                "hold other values than the codes, or the layer is in no signature"
                if same
                else "no float constant has this shape: the layer is in no signature, its weight "
                "was fused with a neighbour's, or its product is not a matrix product"
            )
        lines.append(f"{weight.path} {list(shape)}, {weight.bits} bits: {causes[0]}")
    return ExportError(
        f"{len(missing)} quantized weight(s) not found in the converted model as the second input "
        "of FULLY_CONNECTED, value by value:\n  " + "\n  ".join(lines)
    )


def rewrite(model: bytes | schema.ModelT, weights: Sequence[IntegerWeight]) -> bytes:
    """Replaces the float constants of quantized layers by their trained integers.

    Args:
      model: the converted float twin, as file bytes or as object (which is changed).
      weights: every quantized weight of the model; each must be found at least once. A weight
        that several signatures use is stored once.

    Returns:
      The bytes of the new file: old buffers dropped, equal constants stored once, and each
      FULLY_CONNECTED at the lowest operator version that its types and options need.

    Raises:
      ExportError: a weight is inconsistent, is found nowhere, or is read by something other than
        FULLY_CONNECTED; the message names the layer.
    """
    graph = read_model(model) if isinstance(model, bytes) else model
    wanted: dict[tuple, IntegerWeight] = {}
    for weight in weights:
        _check(weight)
        key = _key(weight.dequantized.T)
        other = wanted.setdefault(key, weight)
        if other is not weight and not (
            other.bits == weight.bits
            and np.array_equal(other.codes, weight.codes)
            and np.array_equal(other.scale, weight.scale)
        ):
            raise ExportError(
                f"{other.path} and {weight.path} have equal dequantized values but other codes, "
                "scales or bits, so their constants cannot be told apart"
            )
    shapes = {shape for shape, _ in wanted}
    uses = _uses(graph)
    stored: dict[tuple, int] = {}
    for g, t, tensor, value in list(_float_constants(graph)):
        if value.shape not in shapes or (key := _key(value)) not in wanted:
            continue
        weight = wanted[key]
        for name, position in uses[g, t]:
            if (name, position) != ("FULLY_CONNECTED", 1):
                raise ExportError(
                    f"{weight.path}: its weight {text(tensor.name)!r} is also read by {name} "
                    f"(input {position}); expected FULLY_CONNECTED (input 1) only"
                )
        if key not in stored:
            buffer = schema.BufferT()
            buffer.data = pack_codes(np.ascontiguousarray(weight.codes.T), weight.bits)
            graph.buffers.append(buffer)
            stored[key] = len(graph.buffers) - 1
        _quantize_tensor(tensor, weight, stored[key])
    missing = [w for key, w in wanted.items() if key not in stored]
    if missing:
        raise _missing(graph, missing)
    _share_buffers(graph)
    _lower_versions(graph)
    # The converter wrote the oldest runtime for the float file; that is no longer true.
    graph.metadata = [m for m in graph.metadata or [] if text(m.name) != "min_runtime_version"]
    return write_model(graph)


def _share_buffers(model: schema.ModelT) -> None:
    """Stores byte-identical constants once and drops every buffer that nothing refers to."""
    kept = [schema.BufferT()]  # entry 0 stands for "no constant"
    place_of: dict[int | bytes, int] = {}

    def place(old: int, identity: int | bytes) -> int:
        if not has_data(model.buffers[old]):
            return 0
        if identity not in place_of:
            kept.append(model.buffers[old])
            place_of[identity] = len(kept) - 1
        return place_of[identity]

    content = [buffer_bytes(buffer).tobytes() for buffer in model.buffers]
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            shared = not tensor.isVariable
            tensor.buffer = place(
                tensor.buffer, content[tensor.buffer] if shared else tensor.buffer
            )
    for entry in model.metadata or []:
        entry.buffer = place(entry.buffer, entry.buffer)
    model.buffers = kept


def _fully_connected_version(types: Sequence[int], op: schema.OperatorT, channels: int) -> int:
    """The lowest FULLY_CONNECTED version for input and weight types and options.

    Follows LiteRT's `tflite/tools/versioning/op_version.cc`. Per-channel INT8 with float
    activations needs 12 although older kernels load it: they ignore all scales and return zeros.
    INT4 and INT2 have no version of their own there; runtimes without them refuse the tensor type.
    """
    options = op.builtinOptions
    activation, weight = types
    kinds = schema.TensorType
    if activation == kinds.INT16 and weight == kinds.INT4:
        return 13
    if activation == kinds.FLOAT32 and weight == kinds.INT8 and channels > 1:
        return 12
    hybrid = activation == kinds.FLOAT32 and weight in (kinds.INT8, kinds.INT4, kinds.INT2)
    version = 1
    if options is not None and options.weightsFormat:
        version = 2
    if hybrid:
        version = 9 if options is not None and options.asymmetricQuantizeInputs else 3
    if activation == kinds.INT8:
        version = 10 if weight in (kinds.INT4, kinds.INT2) else 4
    if activation == kinds.INT16:
        version = 11 if options is not None and options.quantizedBiasType else 7
    if options is not None and options.keepNumDims:
        version = max(version, 5)
    if len(indices(op.inputs)) == 2:
        version = max(version, 6)
    return version


def _lower_versions(model: schema.ModelT) -> None:
    """Gives FULLY_CONNECTED operators one code entry for each version they need."""
    codes = model.operatorCodes
    entries: dict[tuple[int, int], int] = {}  # (entry before, version) -> entry now
    reused: set[int] = set()
    for g, op, name in list(operators(model)):
        if name != "FULLY_CONNECTED":
            continue
        tensors, inputs, old = model.subgraphs[g].tensors, indices(op.inputs), op.opcodeIndex
        weight = tensors[inputs[1]]
        scales = None if weight.quantization is None else weight.quantization.scale
        version = _fully_connected_version(
            (tensors[inputs[0]].type, weight.type), op, 0 if scales is None else len(scales)
        )
        if weight.sparsity is not None:
            version = max(version, 8)
        if (old, version) not in entries:
            if old in reused:
                codes.append(copy.copy(codes[old]))
                entries[old, version] = len(codes) - 1
            else:
                reused.add(old)
                entries[old, version] = old
            codes[entries[old, version]].version = version
        op.opcodeIndex = entries[old, version]
