"""What inspecting a .tflite file finds, as plain records.

A file's signatures (parts) may share constants. Sums over a part count what it uses; sums over
the file and over its components (front end, encoder, decoder) count each stored buffer once, for
the component of the signature that owns it.
"""

import dataclasses
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from asr_qat.runtime.model_file import ONE_PASS

from .delegation import Delegation

PARAMETER_TYPES = {"FLOAT32", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT4", "INT2", "INT16"}
SCALE_BYTES = 4  # float32 in the flatbuffer

# A buffer that several signatures use belongs to the first of these, else to the first of all.
OWNERS = ("frontend", "encoder", "prediction", "joint")
_COMPONENTS = dict(zip(OWNERS, ("front end", "encoder", "decoder", "decoder"), strict=True))


def component_of(signature: str) -> str:
    """The component that a signature belongs to: `encoder_80ms` is of the "encoder".

    Signatures of no known component, such as those of others' files, are one each.
    """
    for word in signature.split("_"):
        if word in _COMPONENTS:
            return _COMPONENTS[word]
    return signature


@dataclass(frozen=True)
class TensorReport:
    """One constant tensor, as one signature uses it."""

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
        return self.data_bytes + SCALE_BYTES * self.scales

    @property
    def bits_per_parameter(self) -> float:
        """Stored bits for each value, scales included; 0 for an empty tensor."""
        return 8 * self.stored_bytes / self.elements if self.elements else 0.0

    @property
    def is_parameter(self) -> bool:
        """False for shapes, axes and other integers of the graph itself."""
        # The int32 bias of an integer product has a scale; shapes have none.
        return self.type in PARAMETER_TYPES or (self.type in {"INT32", "INT64"} and self.scales > 0)


@dataclass(frozen=True)
class StoredTensor:
    """One buffer of constants with everybody who uses it."""

    tensor: TensorReport  # as its owner sees it
    users: tuple[str, ...]  # signatures, in the order of the file's parts

    @property
    def component(self) -> str:
        """The component that its bytes are counted for."""
        return component_of(self.tensor.part)


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
    operators: dict[str, int]  # name -> count, over all its subgraphs
    totals: Totals  # of what it uses
    state_bytes: int  # of inputs X that have an output next_X
    delegation: Delegation | None  # None: not known
    delegation_unknown: str = ""  # and why


@dataclass(frozen=True)
class Component:
    """Front end, encoder, decoder, or a signature of no known component."""

    name: str
    totals: Totals
    shared_bytes: int  # of them, used by several signatures


@dataclass(frozen=True)
class Shared:
    """Constants that are stored once and used by the same several signatures."""

    users: tuple[str, ...]
    tensors: int
    bytes: int


@dataclass(frozen=True)
class Overhead:
    """Bytes of a file that are not constants and their scales."""

    graph_bytes: int  # operators, tensors, names, tables, padding
    metadata_bytes: int  # contents of metadata entries
    scale_bytes: int  # scales of activations, and copies of scales for further signatures
    zero_point_bytes: int  # int64 each
    unused_bytes: int  # constants that no tensor uses

    @property
    def bytes(self) -> int:
        """All of them."""
        return sum(dataclasses.asdict(self).values())


@dataclass(frozen=True)
class FileReport:
    """A whole file."""

    path: Path
    file_bytes: int
    parts: tuple[PartReport, ...]
    tensors: tuple[TensorReport, ...]  # the constant ones, for each part that uses them
    overhead: Overhead
    metadata: dict[str, Any] | None  # ours, None for files of others

    @cached_property
    def compressed_bytes(self) -> int:
        """The file's size after zlib at level 9. Only here zeros of pruned weights take less space.

        Raises:
          OSError: the file can no longer be read.
        """
        return len(zlib.compress(self.path.read_bytes(), 9))

    @property
    def verified(self) -> bool:
        """True: `asr-qat export` wrote these bytes; False: nothing vouches for them."""
        return self.metadata is not None

    def part(self, name: str) -> PartReport:
        """The part of that name.

        Raises:
          KeyError: there is none.
        """
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)

    @property
    def encoder_weight_bytes(self) -> int | None:
        """Bytes of all constants that the encoder's signatures use, scales included."""
        passes = (self.metadata or {}).get("passes", [ONE_PASS])
        names = {name for one in passes for name in one["encoders"]}
        found = [part.totals.weight_bytes for part in self.parts if part.name in names]
        return sum(found) if found else None

    @cached_property
    def stored(self) -> tuple[StoredTensor, ...]:
        """Every buffer of constants once, by owner, in the order of the parts."""
        uses: dict[int, list[TensorReport]] = {}
        for tensor in self.tensors:
            uses.setdefault(tensor.buffer, []).append(tensor)
        ranks = {name: rank for rank, name in enumerate(p.name for p in self.parts)}
        stored = []
        for tensors in uses.values():
            # An owner may use equal bytes as a weight and as something else.
            owner = min(tensors, key=lambda t: (_rank(t.part), ranks[t.part], not t.is_parameter))
            users = sorted({t.part for t in tensors}, key=ranks.__getitem__)
            stored.append(StoredTensor(owner, tuple(users)))
        return tuple(sorted(stored, key=lambda s: (ranks[s.tensor.part], s.tensor.buffer)))

    @cached_property
    def totals(self) -> Totals:
        """Of all constants, each stored buffer once."""
        return totals_of(s.tensor for s in self.stored)

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Sums by component; they add up to `totals`."""
        members: dict[str, list[StoredTensor]] = {}
        for part in self.parts:
            members.setdefault(component_of(part.name), [])
        for tensor in self.stored:
            members[tensor.component].append(tensor)
        return tuple(
            Component(
                name=name,
                totals=totals_of(s.tensor for s in found),
                shared_bytes=sum(s.tensor.stored_bytes for s in found if len(s.users) > 1),
            )
            for name, found in members.items()
        )

    @cached_property
    def shared(self) -> tuple[Shared, ...]:
        """What several signatures use, by who uses it; the largest first."""
        groups: dict[tuple[str, ...], list[StoredTensor]] = {}
        for tensor in self.stored:
            if len(tensor.users) > 1:
                groups.setdefault(tensor.users, []).append(tensor)
        found = [
            Shared(users, len(group), sum(s.tensor.stored_bytes for s in group))
            for users, group in groups.items()
        ]
        return tuple(sorted(found, key=lambda s: -s.bytes))

    def own_bytes(self, part: str) -> int:
        """Bytes of constants that no other part uses."""
        return sum(s.tensor.stored_bytes for s in self.stored if s.users == (part,))


def _rank(part: str) -> int:
    return OWNERS.index(part) if part in OWNERS else len(OWNERS)


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


def document(report: FileReport, tensors: bool = True) -> dict[str, Any]:
    """The report as a JSON document.

    Args:
      report: of a file.
      tensors: list every stored constant.
    """
    parts = []
    for part in report.parts:
        described = dataclasses.asdict(part)
        described["own_bytes"] = report.own_bytes(part.name)
        if part.delegation is not None:
            described["delegation"]["share"] = part.delegation.share
        parts.append(described)
    result = {
        "path": str(report.path),
        "file_bytes": report.file_bytes,
        "compressed_bytes": report.compressed_bytes,
        "verified": report.verified,
        "totals": dataclasses.asdict(report.totals),
        "encoder_weight_bytes": report.encoder_weight_bytes,
        "components": [dataclasses.asdict(component) for component in report.components],
        "parts": parts,
        "shared": [dataclasses.asdict(shared) for shared in report.shared],
        "overhead": {"bytes": report.overhead.bytes, **dataclasses.asdict(report.overhead)},
        "metadata": report.metadata,
    }
    if tensors:
        result["tensors"] = [tensor_document(stored) for stored in report.stored]
    return result


def tensor_document(stored: StoredTensor) -> dict[str, Any]:
    """One stored constant as a JSON document."""
    tensor = stored.tensor
    return {
        "name": tensor.name,
        "component": stored.component,
        "users": list(stored.users),
        "type": tensor.type,
        "shape": list(tensor.shape),
        "data_bytes": tensor.data_bytes,
        "scales": tensor.scales,
        "parameter": tensor.is_parameter,
        "bits_per_parameter": tensor.bits_per_parameter,
        "buffer": tensor.buffer,
    }
