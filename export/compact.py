"""The last touches to a file: what is equal is stored once, and nothing is said twice."""

import copy
import hashlib
from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .flatbuffer import NUMBERED, buffer_bytes, has_data, indices, operators, text


def compact(model: schema.ModelT) -> None:
    """Shares equal buffers, drops unused ones, and gives operators their lowest versions."""
    for index, graph in enumerate(model.subgraphs):
        named = [s for s in model.signatureDefs or [] if s.subgraphIndex == index]
        drop_unused(graph, named)
        shorten(graph, index)
    make_unique(model)
    share_buffers(model)
    lower_versions(model)
    # The converter wrote the oldest runtime for the float file; that is no longer true.
    model.metadata = [m for m in model.metadata or [] if text(m.name) != "min_runtime_version"]


def drop_unused(graph: schema.SubGraphT, signatures: Sequence[schema.SignatureDefT]) -> None:
    """Removes the tensors that nothing mentions.

    Args:
        graph: changed in place.
        signatures: those of the graph; changed in place.
    """
    ends = [*indices(graph.inputs), *indices(graph.outputs)]
    inside = {i for op in graph.operators for i in (*indices(op.inputs), *indices(op.outputs))}
    used = sorted((inside | set(ends)) - {-1})
    place = {old: new for new, old in enumerate(used)} | {-1: -1}
    graph.tensors = [graph.tensors[old] for old in used]
    for op in graph.operators:
        op.inputs = [place[i] for i in indices(op.inputs)]
        op.outputs = [place[i] for i in indices(op.outputs)]
    graph.inputs = [place[i] for i in indices(graph.inputs)]
    graph.outputs = [place[i] for i in indices(graph.outputs)]
    for signature in signatures:
        for entry in (*(signature.inputs or []), *(signature.outputs or [])):
            entry.tensorIndex = place[entry.tensorIndex]


def shorten(graph: schema.SubGraphT, index: int) -> None:
    """Gives computed tensors a number for a name, and drops empty descriptions.

    The converter's names are a tenth of a small file. Inputs, outputs and constants keep theirs.
    """
    ends = {*indices(graph.inputs), *indices(graph.outputs)}
    computed = {i for op in graph.operators for i in indices(op.outputs)}
    for number, tensor in enumerate(graph.tensors):
        if number in computed and number not in ends:
            tensor.name = f"{index}.{number}".encode()
        if tensor.quantization is not None and tensor.quantization.scale is None:
            tensor.quantization = None


def make_unique(model: schema.ModelT) -> None:
    """Numbers the tensors of equal names (``name@2``): tools such as AI Edge Quantizer need it."""
    seen: dict[str, int] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            name = text(tensor.name)
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                tensor.name = f"{name}{NUMBERED}{seen[name]}".encode()


def _fingerprint(data: np.ndarray) -> tuple[int, bytes]:
    return data.size, hashlib.blake2b(data.tobytes(), digest_size=16).digest()


def share_buffers(model: schema.ModelT) -> None:
    """Stores byte-identical constants once and drops every buffer that nothing refers to."""
    kept = [schema.BufferT()]  # entry 0 stands for "no constant"
    place_of: dict[int | tuple[int, bytes], int] = {}

    def place(old: int, identity: int | tuple[int, bytes]) -> int:
        if not has_data(model.buffers[old]):
            return 0
        if identity not in place_of:
            kept.append(model.buffers[old])
            place_of[identity] = len(kept) - 1
        return place_of[identity]

    content = [_fingerprint(buffer_bytes(buffer)) for buffer in model.buffers]
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            shared = not tensor.isVariable
            tensor.buffer = place(
                tensor.buffer, content[tensor.buffer] if shared else tensor.buffer
            )
    for entry in model.metadata or []:
        entry.buffer = place(entry.buffer, entry.buffer)
    model.buffers = kept


def _old_kernel_computes(outputs: int, inputs: int) -> bool:
    """Whether tflite-runtime 2.14 multiplies INT4 weights of this shape rightly (measured)."""
    return inputs >= 32 and inputs % 32 <= 16 and outputs >= 4


def _fully_connected_version(
    types: Sequence[int], op: schema.OperatorT, channels: int, shape: Sequence[int]
) -> int:
    """The lowest FULLY_CONNECTED version for input and weight types and options.

    Follows LiteRT's `tflite/tools/versioning/op_version.cc`. Per-channel INT8 with float
    activations needs 12 although older kernels load it: they ignore all scales and return zeros.
    INT4 and INT2 have no version of their own there; runtimes without them refuse the tensor type.
    tflite-runtime 2.14 has INT4 but computes zeros or overruns its buffers at some sizes: those get
    12 as well, so that it refuses them.
    """
    options = op.builtinOptions
    activation, weight = types
    kinds = schema.TensorType
    if activation == kinds.INT16 and weight == kinds.INT4:
        return 13
    if activation == kinds.FLOAT32 and weight == kinds.INT8 and channels > 1:
        return 12
    if activation == kinds.FLOAT32 and weight == kinds.INT4 and not _old_kernel_computes(*shape):
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


def lower_versions(model: schema.ModelT) -> None:
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
            (tensors[inputs[0]].type, weight.type),
            op,
            0 if scales is None else len(scales),
            indices(weight.shape),
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
