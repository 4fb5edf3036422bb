"""What is inside a .tflite file: tensors, operators, bytes, and what XNNPACK takes over.

A file of ours is checked by its digest first. Nothing vouches for a file of others, so it is read
and loaded in a process of its own, whose crash, hang or hunger for memory is an error message.
"""

import os
from pathlib import Path
from typing import Any

from asr_qat.runtime.model_file import ModelFileError, parse_any

from .inspection import inspect_worker
from .inspection.delegation import Delegation, DelegationUnknown, delegation
from .inspection.file_report import FileReport, PartReport, totals_of
from .inspection.isolated import limits_for, run_isolated
from .inspection.structure import Structure, read_structure

Splits = dict[str, tuple[Delegation | None, str]]  # part -> delegation, or why it is not known


def inspect_file(path: str | os.PathLike[str]) -> FileReport:
    """Describes any .tflite file, ours or not.

    Raises:
      ModelFileError: the file is absent, no .tflite file, truncated or damaged.
      IsolationError: no process can be started to read a file of others.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        metadata = parse_any(content)
        structure, splits = _unverified(content) if metadata is None else _verified(content)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error.__cause__
    return _report(path, len(content), metadata, structure, splits)


def _verified(content: bytes) -> tuple[Structure, Splits]:
    structure, model = read_structure(content)
    splits: Splits = {}
    for part in structure.parts:
        try:
            splits[part.name] = delegation(model, part.graphs), ""
        except DelegationUnknown as error:
            splits[part.name] = None, str(error)
    return structure, splits


def _unverified(content: bytes) -> tuple[Structure, Splits]:
    answer = run_isolated(inspect_worker.__name__, content, limits_for(len(content)))
    problem = answer.problem or "the process that loaded it ended early"
    if not answer.lines:
        raise ModelFileError(f"is truncated or damaged: when it is read, {problem}")
    first, *rest = answer.lines
    if "refused" in first:
        raise ModelFileError(first["refused"])
    structure = inspect_worker.structure_of(first["structure"])
    splits: Splits = {part.name: (None, problem) for part in structure.parts}
    for line in rest:
        splits[line["part"]] = inspect_worker.delegation_of(line), line["why"]
    return structure, splits


def _report(
    path: Path,
    file_bytes: int,
    metadata: dict[str, Any] | None,
    structure: Structure,
    splits: Splits,
) -> FileReport:
    parts = []
    for part in structure.parts:
        split, why = splits[part.name]
        totals = totals_of(t for t in structure.tensors if t.part == part.name)
        parts.append(PartReport(part.name, part.operators, totals, part.state_bytes, split, why))
    return FileReport(
        path=path,
        file_bytes=file_bytes,
        parts=tuple(parts),
        tensors=structure.tensors,
        overhead=structure.overhead,
        metadata=metadata,
    )
