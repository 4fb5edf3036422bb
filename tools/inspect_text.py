"""The text of `asr-qat inspect`: a file's report, and files side by side."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from asr_qat.export.inspection.compare import Comparison, TensorRow
from asr_qat.export.inspection.delegation import Delegation
from asr_qat.export.inspection.file_report import FileReport, StoredTensor, Totals

from .table import print_table

_MOST_ROWS = 30  # of tensors that differ, when not all are asked for


def ratio(value: float, base: float) -> str:
    """A value in relation to the first file's."""
    return f"{value / base:.3f}" if base else "-"


def _bits(totals: Totals) -> str:
    return f"{totals.bits_per_parameter:.2f}" if totals.parameters else "-"


def _by_type(totals: Totals) -> str:
    return ", ".join(f"{k} {v:,}" for k, v in totals.bytes_by_type.items())


def _split(split: Delegation | None) -> str:
    return "?" if split is None else f"{split.delegated}/{split.operators}"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def print_report(report: FileReport, tensors: bool) -> None:
    """Prints the report of one file; `tensors`: with every stored constant."""
    _print_head(report)
    print()
    _print_components(report)
    print()
    _print_parts(report)
    for shared in report.shared:
        what = "tensor" if shared.tensors == 1 else "tensors"
        print(
            f"{shared.bytes:,} bytes ({shared.tensors} {what}) stored once, used by "
            f"{len(shared.users)} signatures: {', '.join(shared.users)}"
        )
    for part in report.parts:
        print(f"\n{part.name}: " + ", ".join(f"{k} {v}" for k, v in part.operators.items()))
        split = part.delegation
        if split is None:
            print(f"  delegation unknown: {part.delegation_unknown}")
        elif split.left:
            left = ", ".join(f"{k} {v}" for k, v in split.left.items())
            print(f"  not delegated: {left}; {split.partitions} XNNPACK partition(s)")
    if tensors:
        print()
        _print_tensors(report.stored)


def _kind(metadata: dict[str, Any]) -> str:
    if metadata.get("kind") == "model":
        return "a model, not a recogniser"
    rate, vocabulary = metadata["sample_rate"], metadata["vocabulary"]
    return (
        f"{rate} Hz, {1000 * metadata['chunk_samples'] / rate:g} ms a chunk, "
        f"{len(vocabulary['pieces'])} labels ({vocabulary.get('kind', '?')})"
    )


def _print_head(report: FileReport) -> None:
    print(
        f"{report.path}: {report.file_bytes:,} bytes, {report.compressed_bytes:,} compressed "
        f"(zlib, {_percent(report.compressed_bytes, report)})"
    )
    metadata, totals = report.metadata, report.totals
    if metadata is not None:
        written = f"written by {metadata.get('producer', '?')}, SHA-256 as written"
        print(f"{written}; {_kind(metadata)}")
    else:
        print(
            "no asr_qat metadata: not written by `asr-qat export`; unverified, nothing vouches "
            "for its contents"
        )
    print(
        f"constants {totals.weight_bytes:,} bytes, {totals.parameters:,} parameters, "
        f"{totals.bits_per_parameter:.2f} bits each, scales included"
    )
    if report.encoder_weight_bytes is not None:
        print(f"encoder weights {report.encoder_weight_bytes:,} bytes")


def _print_components(report: FileReport) -> None:
    rows = [("part", "bytes", "of file", "parameters", "bits", "shared", "bytes by type")]
    for component in report.components:
        totals = component.totals
        rows.append(
            (
                component.name,
                f"{totals.weight_bytes:,}",
                _percent(totals.weight_bytes, report),
                f"{totals.parameters:,}",
                _bits(totals),
                f"{component.shared_bytes:,}",
                _by_type(totals),
            )
        )
    overhead = report.overhead
    kinds = {
        "graph": overhead.graph_bytes,
        "metadata": overhead.metadata_bytes,
        "zero points": overhead.zero_point_bytes,
        "more scales": overhead.scale_bytes,
        "unused": overhead.unused_bytes,
    }
    rows.append(
        (
            "overhead",
            f"{overhead.bytes:,}",
            _percent(overhead.bytes, report),
            "0",
            "-",
            "0",
            ", ".join(f"{k} {v:,}" for k, v in kinds.items() if v),
        )
    )
    print_table(rows)


def _percent(value: int, report: FileReport) -> str:
    return f"{100 * value / report.file_bytes:.1f} %"


def _print_parts(report: FileReport) -> None:
    rows = [("signature", "uses", "alone", "parameters", "bits", "states", "XNNPACK", "operators")]
    for part in report.parts:
        rows.append(
            (
                part.name,
                f"{part.totals.weight_bytes:,}",
                f"{report.own_bytes(part.name):,}",
                f"{part.totals.parameters:,}",
                _bits(part.totals),
                f"{part.state_bytes:,}",
                _split(part.delegation),
                str(sum(part.operators.values())),
            )
        )
    print_table(rows)


def _print_tensors(stored: Sequence[StoredTensor]) -> None:
    rows = [("part", "type", "shape", "bytes", "scales", "bits", "buffer", "used by", "name")]
    for item in stored:
        t = item.tensor
        rows.append(
            (
                item.component,
                t.type,
                _shape(t.shape),
                f"{t.data_bytes:,}",
                str(t.scales),
                f"{t.bits_per_parameter:.2f}",
                str(t.buffer),
                " ".join(item.users),
                t.name,
            )
        )
    print_table(rows)


def print_comparison(comparison: Comparison, tensors: bool) -> None:
    """Prints files side by side; `tensors`: with every constant that differs."""
    reports = comparison.reports
    base = reports[0]
    rows = [
        ("", "file", "bytes", "ratio", "zlib", "parameters", "bits", "overhead", "written by"),
    ]
    for index, report in enumerate(reports, 1):
        by = "unverified" if report.metadata is None else report.metadata.get("producer", "?")
        rows.append(
            (
                f"[{index}]",
                str(report.path),
                f"{report.file_bytes:,}",
                ratio(report.file_bytes, base.file_bytes),
                f"{report.compressed_bytes:,}",
                f"{report.totals.parameters:,}",
                _bits(report.totals),
                f"{report.overhead.bytes:,}",
                by,
            )
        )
    print_table(rows)
    marks = [f"[{index}]" for index in range(1, len(reports) + 1)]
    _print_totals("part", marks, comparison.components)
    _print_totals("signature uses", marks, comparison.parts)
    _print_bytes("type", marks, comparison.bytes_by_type)
    kinds = [dataclasses.asdict(r.overhead) for r in reports]
    _print_bytes(
        "overhead",
        marks,
        {
            **{
                name.removesuffix("_bytes").replace("_", " "): tuple(k[name] for k in kinds)
                for name in kinds[0]
            },
            "all": tuple(r.overhead.bytes for r in reports),
        },
    )
    if comparison.operators:
        print()
        head = ("operators that differ", "signature", *marks)
        cells = [(r.operator, r.part, *map(str, r.counts)) for r in comparison.operators]
        print_table([head, *cells])
    if comparison.delegation:
        print()
        head = ("delegation that differs", *marks)
        cells = [(row.part, *map(_split, row.splits)) for row in comparison.delegation]
        print_table([head, *cells])
    if not comparison.operators and not comparison.delegation:
        print("\noperators and delegation are the same")
    _print_changes(comparison, marks, tensors)


def _print_totals(title: str, marks: list[str], table: dict[str, tuple[Totals, ...]]) -> None:
    # Parameters differ only between architectures; else one column says it.
    same = all(len({totals.parameters for totals in row}) == 1 for row in table.values())
    head = [title, *(["parameters"] if same else [])]
    for index, mark in enumerate(marks):
        head += [f"{mark} bytes", *(["ratio"] if index else [])]
        head += ["bits"] if same else ["parameters", "bits"]
    rows = [head]
    for name, row in table.items():
        cells = [name, *([f"{row[0].parameters:,}"] if same else [])]
        for index, totals in enumerate(row):
            cells.append(f"{totals.weight_bytes:,}")
            if index:
                cells.append(ratio(totals.weight_bytes, row[0].weight_bytes))
            cells += [_bits(totals)] if same else [f"{totals.parameters:,}", _bits(totals)]
        rows.append(cells)
    print()
    print_table(rows)


def _print_bytes(title: str, marks: list[str], table: dict[str, tuple[int, ...]]) -> None:
    head = [title]
    for index, mark in enumerate(marks):
        head += [f"{mark} bytes", *(["ratio"] if index else [])]
    rows = [head]
    for name, row in table.items():
        cells = [name]
        for index, value in enumerate(row):
            cells += [f"{value:,}", *([ratio(value, row[0])] if index else [])]
        rows.append(cells)
    print()
    print_table(rows)


def _print_changes(comparison: Comparison, marks: list[str], all_rows: bool) -> None:
    changed = sorted(comparison.changed_tensors, key=lambda row: -_most_bytes(row))
    same = len(comparison.tensors) - len(changed)
    if not changed:
        print(f"\nall {same} stored tensors have the same type, shape and bytes")
        return
    print()
    rows = [["tensors that differ", "part", *marks]]
    shown = changed if all_rows else changed[:_MOST_ROWS]
    for row in shown:
        rows.append([row.first.tensor.name, row.first.component, *map(_cell, row.tensors)])
    print_table(rows)
    if len(shown) < len(changed):
        print(f"and {len(changed) - len(shown)} smaller ones (--tensors lists them)")
    print(f"{same} stored tensors have the same type, shape and bytes")


def _most_bytes(row: TensorRow) -> int:
    return max(0 if t is None else t.tensor.stored_bytes for t in row.tensors)


def _cell(stored: StoredTensor | None) -> str:
    if stored is None:
        return "-"
    t = stored.tensor
    return f"{t.type} {_shape(t.shape)} {t.stored_bytes:,}"
