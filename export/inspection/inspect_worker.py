"""Describes the .tflite file on standard input; run by `inspect` for files of others.

Answers, see `isolated`: {"refused": why}, or {"structure": …} and then for each part
{"part": name, "delegation": … or null, "why": …}, so that a crash of the native runtime leaves
what was found before.
"""

import dataclasses
import sys
from typing import Any

from .delegation import Delegation, DelegationUnknown, delegation
from .file_report import Overhead, TensorReport
from .isolated import Worker, begin
from .structure import ModelFileError, Part, Structure, read_structure


def main(arguments: list[str]) -> None:
    """Body of the process."""
    worker = begin(arguments)
    try:
        structure, model = read_structure(worker.content)
        worker.write({"structure": dataclasses.asdict(structure)})
    except ModelFileError as error:
        worker.write({"refused": str(error)})
        return
    except MemoryError:
        worker.write({"refused": "is damaged, or too large to read: it takes too much memory"})
        return
    for part in structure.parts:
        _delegation(worker, part, model)


def _delegation(worker: Worker, part: Part, model: Any) -> None:
    try:
        split, why = dataclasses.asdict(delegation(model, part.graphs)), ""
    except DelegationUnknown as error:
        split, why = None, str(error)
    worker.write({"part": part.name, "delegation": split, "why": why})


def structure_of(answer: dict[str, Any]) -> Structure:
    """The structure in a worker's answer."""
    return Structure(
        parts=tuple(Part(**{**p, "graphs": tuple(p["graphs"])}) for p in answer["parts"]),
        tensors=tuple(TensorReport(**{**t, "shape": tuple(t["shape"])}) for t in answer["tensors"]),
        overhead=Overhead(**answer["overhead"]),
    )


def delegation_of(answer: dict[str, Any]) -> Delegation | None:
    """The delegation in a worker's answer."""
    return None if answer["delegation"] is None else Delegation(**answer["delegation"])


if __name__ == "__main__":
    main(sys.argv[1:])
