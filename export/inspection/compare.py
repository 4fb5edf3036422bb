"""Differences between .tflite files, side by side.

Tensors of different files are the same one if their component, name and shape agree; then, if
their component and name do; then, among the weights that are left, if their component and shape
do, in the order of the file. Names that converters make up (`arith.constant7`) say nothing and
are not compared.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from .delegation import Delegation
from .file_report import FileReport, StoredTensor, Totals, tensor_document, totals_of

_MADE_UP = re.compile(r"(arith\.constant|pseudo_?const|const(ant)?|cst)[_.]?\d*", re.IGNORECASE)
_NOTHING = totals_of([])


@dataclass(frozen=True)
class OperatorRow:
    """An operator that files do not have equally often."""

    part: str
    operator: str
    counts: tuple[int, ...]  # one for each file


@dataclass(frozen=True)
class DelegationRow:
    """A signature that the runtime splits differently."""

    part: str
    splits: tuple[Delegation | None, ...]  # None: unknown, or no such signature


@dataclass(frozen=True)
class TensorRow:
    """One constant in every file; the first that has it names it."""

    tensors: tuple[StoredTensor | None, ...]  # one for each file

    @property
    def first(self) -> StoredTensor:
        """Of the first file that has it."""
        return next(t for t in self.tensors if t is not None)

    @property
    def changed(self) -> bool:
        """True unless type, shape and bytes agree in all files."""
        kinds = {
            None if t is None else (t.tensor.type, t.tensor.shape, t.tensor.stored_bytes)
            for t in self.tensors
        }
        return len(kinds) > 1


@dataclass(frozen=True)
class Comparison:
    """Files next to each other; every tuple has one entry for each file."""

    reports: tuple[FileReport, ...]
    components: dict[str, tuple[Totals, ...]]  # zeros where a file lacks it
    parts: dict[str, tuple[Totals, ...]]  # signatures: what they use
    bytes_by_type: dict[str, tuple[int, ...]]
    operators: tuple[OperatorRow, ...]  # those that differ
    delegation: tuple[DelegationRow, ...]  # those that differ
    tensors: tuple[TensorRow, ...]  # all

    @property
    def changed_tensors(self) -> tuple[TensorRow, ...]:
        """Tensors whose type, shape or bytes differ."""
        return tuple(row for row in self.tensors if row.changed)


def compare(reports: Sequence[FileReport]) -> Comparison:
    """Puts files side by side.

    Raises:
      ValueError: fewer than two files.
    """
    if len(reports) < 2:
        raise ValueError(f"expected at least two files to compare, received {len(reports)}")
    by_component = [{c.name: c.totals for c in report.components} for report in reports]
    by_part = [{p.name: p for p in report.parts} for report in reports]
    types = [report.totals.bytes_by_type for report in reports]
    operators, delegation = [], []
    for part in _names(by_part):
        found = [parts.get(part) for parts in by_part]
        counts = [{} if p is None else p.operators for p in found]
        for operator in _names(counts):
            row = tuple(c.get(operator, 0) for c in counts)
            if len(set(row)) > 1:
                operators.append(OperatorRow(part, operator, row))
        splits = tuple(None if p is None else p.delegation for p in found)
        if any(split != splits[0] for split in splits):
            delegation.append(DelegationRow(part, splits))
    return Comparison(
        reports=tuple(reports),
        components={
            name: tuple(c.get(name, _NOTHING) for c in by_component)
            for name in _names(by_component)
        },
        parts={
            name: tuple(p[name].totals if name in p else _NOTHING for p in by_part)
            for name in _names(by_part)
        },
        bytes_by_type={name: tuple(t.get(name, 0) for t in types) for name in _names(types)},
        operators=tuple(operators),
        delegation=tuple(delegation),
        tensors=match_tensors([report.stored for report in reports]),
    )


def _names(tables: Sequence[dict[str, Any]]) -> list[str]:
    """The keys of all tables, each once, in the order in which they turn up."""
    return list(dict.fromkeys(name for table in tables for name in table))


def _name_and_shape(stored: StoredTensor) -> Hashable:
    name = stored.tensor.name
    return None if _MADE_UP.fullmatch(name) else (stored.component, name, stored.tensor.shape)


def _name(stored: StoredTensor) -> Hashable:
    name = stored.tensor.name
    return None if _MADE_UP.fullmatch(name) else (stored.component, name)


def _shape_of_weight(stored: StoredTensor) -> Hashable:
    tensor = stored.tensor
    return (stored.component, tensor.shape) if tensor.is_parameter else None


def _type_and_shape(stored: StoredTensor) -> Hashable:
    return stored.component, stored.tensor.type, stored.tensor.shape


_KEYS: tuple[Callable[[StoredTensor], Hashable], ...] = (
    _name_and_shape,
    _name,
    _shape_of_weight,
    _type_and_shape,
)


def match_tensors(files: Sequence[Sequence[StoredTensor]]) -> tuple[TensorRow, ...]:
    """Finds each file's tensors in the files before it.

    Args:
      files: the stored tensors of each.

    Returns:
      A row for every tensor, in the order of the first file; those of later files alone follow.
    """
    rows: list[list[StoredTensor | None]] = []
    for index, tensors in enumerate(files):
        known = [next(t for t in row if t is not None) for row in rows]
        for row in rows:
            row.append(None)
        left, open_rows = list(tensors), list(range(len(rows)))
        for key in _KEYS:
            waiting: dict[Hashable, list[StoredTensor]] = defaultdict(list)
            for tensor in left:
                waiting[key(tensor)].append(tensor)
            waiting.pop(None, None)
            matched: set[int] = set()
            for place in list(open_rows):
                if candidates := waiting.get(key(known[place])):
                    rows[place][index] = candidates.pop(0)
                    matched.add(id(rows[place][index]))
                    open_rows.remove(place)
            left = [tensor for tensor in left if id(tensor) not in matched]
        rows.extend([*[None] * index, tensor] for tensor in left)
    return tuple(TensorRow(tuple(row)) for row in rows)


def comparison_document(comparison: Comparison, tensors: bool = True) -> dict[str, Any]:
    """The comparison as a JSON document.

    Args:
      comparison: of files.
      tensors: list the constants that differ.
    """
    base = comparison.reports[0].file_bytes

    def totals(rows: dict[str, tuple[Totals, ...]]) -> dict[str, Any]:
        return {name: [dataclasses.asdict(t) for t in row] for name, row in rows.items()}

    result: dict[str, Any] = {
        "paths": [str(report.path) for report in comparison.reports],
        "file_bytes": [report.file_bytes for report in comparison.reports],
        "ratio_to_first": [report.file_bytes / base for report in comparison.reports],
        "components": totals(comparison.components),
        "parts": totals(comparison.parts),
        "bytes_by_type": {name: list(row) for name, row in comparison.bytes_by_type.items()},
        "operators_that_differ": [dataclasses.asdict(row) for row in comparison.operators],
        "delegation_that_differs": [dataclasses.asdict(row) for row in comparison.delegation],
        "changed_tensors": len(comparison.changed_tensors),
    }
    if tensors:
        result["tensors_that_differ"] = [
            [None if t is None else tensor_document(t) for t in row.tensors]
            for row in comparison.changed_tensors
        ]
    return result
