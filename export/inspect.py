"""What is inside a .tflite file: tensors, operators, bytes, and what XNNPACK takes over."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from asr_qat.runtime.model_file import METADATA_NAME, ModelFileError, metadata_spans, parse

from .delegation import Delegation, called_subgraphs, delegation
from .flatbuffer import TENSOR_TYPE_NAMES, has_data, indices, operator_name, read_model, text

_PARAMETER_TYPES = {"FLOAT32", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT4", "INT2", "INT16"}
_SCALE_BYTES = 4  # float32 in the flatbuffer


@dataclass(frozen=True)
class TensorReport:
    """One constant tensor."""

    part: str  # signature that uses it
    name: str
    shape: tuple[int, ...]
    type: str  # TFLite's name: FLOAT32, INT4 …
    buffer: int  # tensors with the same number share their bytes
    data_bytes: int
    scales: int  # quantization scales, 0 for a tensor that is not quantized

    @property
    def elements(self) -> int:
        """Number of values."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def stored_bytes(self) -> int:
        """Bytes of the values and of their scales."""
        return self.data_bytes + _SCALE_BYTES * self.scales

    @property
    def is_parameter(self) -> bool:
        """False for shapes, axes and other integers of the graph itself."""
        return self.type in _PARAMETER_TYPES


@dataclass(frozen=True)
class Totals:
    """Sums over constant tensors, each shared buffer counted once."""

    weight_bytes: int  # every constant, with scales
    parameters: int  # number of weights and biases
    bits_per_parameter: float  # of those, with scales; 0 without parameters
    bytes_by_type: dict[str, int]


@dataclass(frozen=True)
class PartReport:
    """One signature (or a subgraph without a signature)."""

    name: str
    operators: dict[str, int]  # name -> count
    totals: Totals
    state_bytes: int  # of inputs X that have an output next_X
    delegation: Delegation | None  # None: not known


@dataclass(frozen=True)
class FileReport:
    """A whole file."""

    path: Path
    file_bytes: int
    parts: tuple[PartReport, ...]
    tensors: tuple[TensorReport, ...]  # the constant ones
    totals: Totals
    metadata: dict[str, Any] | None  # ours, None for files of others

    def part(self, name: str) -> PartReport:
        """The part of that name.

        Raises:
          KeyError: there is none.
        """
        return next(part for part in self.parts if part.name == name)

    @property
    def encoder_weight_bytes(self) -> int | None:
        """Bytes of all constants that the encoder signature uses, scales included."""
        found = [part.totals.weight_bytes for part in self.parts if part.name == "encoder"]
        return found[0] if found else None


def totals_of(tensors: Iterable[TensorReport]) -> Totals:
    """Sums over tensors, counting each buffer once."""
    unique = list({tensor.buffer: tensor for tensor in tensors}.values())
    parameters = [tensor for tensor in unique if tensor.is_parameter]
    count = sum(tensor.elements for tensor in parameters)
    by_type: Counter[str] = Counter()
    for tensor in unique:
        by_type[tensor.type] += tensor.stored_bytes
    return Totals(
        weight_bytes=sum(tensor.stored_bytes for tensor in unique),
        parameters=count,
        bits_per_parameter=8 * sum(t.stored_bytes for t in parameters) / count if count else 0.0,
        bytes_by_type=dict(by_type.most_common()),
    )


def _subgraph_names(model: schema.ModelT) -> dict[int, list[str]]:
    """Subgraph -> the parts that run it; every subgraph belongs to at least one."""
    parts: dict[int, list[str]] = {}

    def visit(index: int, name: str) -> None:
        if name in parts.setdefault(index, []):
            return
        parts[index].append(name)
        for op in model.subgraphs[index].operators or []:
            for called in called_subgraphs(op):
                visit(called, name)

    for signature in model.signatureDefs or []:
        visit(signature.subgraphIndex, text(signature.signatureKey))
    for index in range(len(model.subgraphs)):
        if index not in parts:
            visit(index, "main" if index == 0 else f"subgraph_{index}")
    return parts


def _constants(model: schema.ModelT, index: int, part: str) -> list[TensorReport]:
    found = []
    for tensor in model.subgraphs[index].tensors or []:
        buffer = model.buffers[tensor.buffer]
        if has_data(buffer):
            scale = None if tensor.quantization is None else tensor.quantization.scale
            kind = TENSOR_TYPE_NAMES.get(tensor.type, f"TYPE_{tensor.type}")
            found.append(
                TensorReport(
                    part=part,
                    name=text(tensor.name),
                    shape=tuple(indices(tensor.shape)),
                    type=kind,
                    buffer=int(tensor.buffer),
                    data_bytes=len(buffer.data),
                    scales=0 if scale is None else len(scale),
                )
            )
    return found


def _state_bytes(model: schema.ModelT, part: str) -> int:
    for signature in model.signatureDefs or []:
        if text(signature.signatureKey) == part:
            tensors = model.subgraphs[signature.subgraphIndex].tensors
            outputs = {text(entry.name) for entry in signature.outputs or []}
            total = 0
            for entry in signature.inputs or []:
                if f"next_{text(entry.name)}" in outputs:
                    elements = 1
                    for size in indices(tensors[entry.tensorIndex].shape):
                        elements *= size
                    total += 4 * elements
            return total
    return 0


def _part(
    model: schema.ModelT, name: str, graphs: Sequence[int], tensors: Iterable[TensorReport]
) -> PartReport:
    counts: Counter[str] = Counter()
    for index in graphs:
        for op in model.subgraphs[index].operators or []:
            counts[operator_name(model.operatorCodes[op.opcodeIndex])] += 1
    return PartReport(
        name=name,
        operators=dict(counts.most_common()),
        totals=totals_of(tensors),
        state_bytes=_state_bytes(model, name),
        delegation=delegation(model, graphs[0]) if len(graphs) == 1 else None,
    )


def inspect_file(path: str | os.PathLike[str]) -> FileReport:
    """Describes any .tflite file, ours or not.

    Raises:
      ModelFileError: the file is absent, no .tflite file, truncated or damaged.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        metadata = parse(content) if METADATA_NAME in metadata_spans(content) else None
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    try:
        return _report(path, content, metadata)
    except Exception as error:  # whatever reading damaged bytes of others may raise
        raise ModelFileError(f"{path}: is truncated or damaged: {error}") from error


def _report(path: Path, content: bytes, metadata: dict[str, Any] | None) -> FileReport:
    model = read_model(content)
    members = _subgraph_names(model)
    tensors = [
        tensor
        for index, names in sorted(members.items())
        for name in names
        for tensor in _constants(model, index, name)
    ]
    parts = []
    for name in dict.fromkeys(name for names in members.values() for name in names):
        # The signature's own subgraph was visited first and comes first.
        graphs = [index for index, names in members.items() if name in names]
        parts.append(_part(model, name, graphs, [t for t in tensors if t.part == name]))
    return FileReport(
        path=path,
        file_bytes=len(content),
        parts=tuple(parts),
        tensors=tuple(tensors),
        totals=totals_of(tensors),
        metadata=metadata,
    )
