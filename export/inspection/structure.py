"""Reads the structure of a .tflite file: its constants, operators, states and overhead.

Pure Python over the bytes; no native code sees them. Bytes that nobody vouches for may still take
this long or need much memory: `inspect` then runs it behind `isolated`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from asr_qat.runtime.model_file import ModelFileError

from ..flatbuffer import TENSOR_TYPE_NAMES, has_data, indices, operator_name, read_model, text
from .delegation import called_subgraphs
from .file_report import OWNERS, SCALE_BYTES, Overhead, TensorReport

_ZERO_POINT_BYTES = 8  # int64
_SCALE_SLOT, _ZERO_POINT_SLOT = 8, 10  # of QuantizationParameters in schema.fbs

# Bits of a value; types that are not here, such as strings, have no fixed size.
TYPE_BITS = {
    **dict.fromkeys(("INT2",), 2),
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("INT8", "UINT8", "BOOL"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT32"), 32),
    **dict.fromkeys(("INT64", "UINT64", "FLOAT64", "COMPLEX64"), 64),
    "COMPLEX128": 128,
}


@dataclass(frozen=True)
class Part:
    """A signature, or a subgraph that no signature reaches."""

    name: str
    graphs: tuple[int, ...]  # its own subgraph first, then those that it runs
    operators: dict[str, int]  # name -> count
    state_bytes: int  # of inputs X that have an output next_X


@dataclass(frozen=True)
class Structure:
    """Everything in a file but how the runtime splits it."""

    parts: tuple[Part, ...]
    tensors: tuple[TensorReport, ...]  # the constant ones, for each part that uses them
    overhead: Overhead


def read_structure(content: bytes) -> tuple[Structure, schema.ModelT]:
    """Reads a file's structure.

    Args:
      content: the whole file.

    Returns:
      The structure, and the unpacked model that it was read from.

    Raises:
      ModelFileError: the bytes are damaged; the message starts with a verb.
      MemoryError: there is not enough of it.
    """
    try:
        model = read_model(content)
        if not model.subgraphs:
            raise ModelFileError("is truncated or damaged: it has no subgraph")
        members = _members(model)
        tensors = [
            tensor
            for name, graphs in members.items()
            for index in graphs
            for tensor in _constants(model, index, name)
        ]
        parts = [
            Part(name, tuple(graphs), _operators(model, graphs), _state_bytes(model, name))
            for name, graphs in members.items()
        ]
        return Structure(tuple(parts), tuple(tensors), _overhead(content, model, tensors)), model
    except (ModelFileError, MemoryError):
        raise
    except Exception as error:  # whatever reading damaged bytes may raise
        what = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise ModelFileError(f"is truncated or damaged: its tables do not fit ({what})") from error


def _members(model: schema.ModelT) -> dict[str, list[int]]:
    """Part -> its subgraphs; every subgraph belongs to at least one part."""
    parts: dict[str, list[int]] = {}

    def visit(index: int, name: str) -> None:
        todo = [index]
        graphs = parts.setdefault(name, [])
        while todo:
            graph = todo.pop()
            if graph not in graphs:
                graphs.append(graph)
                for op in model.subgraphs[graph].operators or []:
                    todo.extend(called_subgraphs(op))

    for signature in model.signatureDefs or []:
        visit(signature.subgraphIndex, text(signature.signatureKey))
    reached = {index for graphs in parts.values() for index in graphs}
    for index in range(len(model.subgraphs)):
        if index not in reached:
            before = set(parts)
            visit(index, "main" if index == 0 else f"subgraph_{index}")
            reached.update(i for name in set(parts) - before for i in parts[name])
    known = [name for name in OWNERS if name in parts]
    return {name: parts[name] for name in dict.fromkeys([*known, *parts])}


def _constants(model: schema.ModelT, index: int, part: str) -> list[TensorReport]:
    found = []
    for tensor in model.subgraphs[index].tensors or []:
        buffer = model.buffers[tensor.buffer]
        if has_data(buffer):
            scale = None if tensor.quantization is None else tensor.quantization.scale
            report = TensorReport(
                part=part,
                name=text(tensor.name),
                shape=tuple(indices(tensor.shape)),
                type=TENSOR_TYPE_NAMES.get(tensor.type, f"TYPE_{tensor.type}"),
                buffer=int(tensor.buffer),
                data_bytes=len(buffer.data),
                scales=0 if scale is None else len(scale),
            )
            if tensor.sparsity is None:
                _check_size(report)
            found.append(report)
    return found


def _check_size(tensor: TensorReport) -> None:
    bits = TYPE_BITS.get(tensor.type)
    if bits is None:
        return
    wanted = -(-tensor.elements * bits // 8)
    if min(tensor.shape, default=1) < 0 or tensor.data_bytes != wanted:
        raise ModelFileError(
            f"is truncated or damaged: tensor {tensor.name!r} of type {tensor.type} and shape "
            f"{list(tensor.shape)} has {tensor.data_bytes} bytes, expected {wanted}"
        )


def _operators(model: schema.ModelT, graphs: Sequence[int]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for index in graphs:
        for op in model.subgraphs[index].operators or []:
            counts[operator_name(model.operatorCodes[op.opcodeIndex])] += 1
    return dict(counts.most_common())


def _state_bytes(model: schema.ModelT, part: str) -> int:
    for signature in model.signatureDefs or []:
        if text(signature.signatureKey) == part:
            tensors = model.subgraphs[signature.subgraphIndex].tensors
            outputs = {text(entry.name) for entry in signature.outputs or []}
            total = 0
            for entry in signature.inputs or []:
                if f"next_{text(entry.name)}" in outputs:
                    tensor = tensors[entry.tensorIndex]
                    bits = TYPE_BITS.get(TENSOR_TYPE_NAMES.get(tensor.type, ""), 0)
                    for size in indices(tensor.shape):
                        bits *= size
                    total += -(-bits // 8)
            return total
    return 0


def _overhead(content: bytes, model: schema.ModelT, tensors: list[TensorReport]) -> Overhead:
    data = {tensor.buffer: tensor.data_bytes for tensor in tensors}
    scales = {tensor.buffer: SCALE_BYTES * tensor.scales for tensor in tensors}
    described = {int(entry.buffer) for entry in model.metadata or []} - set(data)
    metadata = unused = 0
    for index, buffer in enumerate(model.buffers):
        if index not in data and has_data(buffer):
            if index in described:
                metadata += len(buffer.data)
            else:
                unused += len(buffer.data)
    all_scales, zero_points = _quantization_bytes(content)
    # Equal vectors may be stored once for several tensors; then nothing is left over.
    more_scales = max(0, all_scales - sum(scales.values()))
    known = sum(data.values()) + sum(scales.values()) + metadata + unused
    graph = len(content) - known - more_scales - zero_points
    if graph < 0:
        raise ModelFileError(
            f"is truncated or damaged: {len(content)} bytes hold contents of {len(content) - graph}"
        )
    return Overhead(graph, metadata, more_scales, zero_points, unused)


def _quantization_bytes(content: bytes) -> tuple[int, int]:
    """Bytes of all scales and of all zero points, each stored vector counted once."""
    scales: dict[int, int] = {}
    zero_points: dict[int, int] = {}
    model = schema.Model.GetRootAs(content, 0)
    for g in range(model.SubgraphsLength()):
        graph = model.Subgraphs(g)
        for t in range(graph.TensorsLength()):
            quantization = graph.Tensors(t).Quantization()
            if quantization is None:
                continue
            table = quantization._tab
            for slot, width, found in (
                (_SCALE_SLOT, SCALE_BYTES, scales),
                (_ZERO_POINT_SLOT, _ZERO_POINT_BYTES, zero_points),
            ):
                if offset := table.Offset(slot):
                    found[table.Vector(offset)] = width * table.VectorLen(offset)
    return sum(scales.values()), sum(zero_points.values())
