"""Where the bytes of .tflite files are, as a picture.

Bars, stacked by part and type, for every file; below, of one file a map of its largest tensors,
of several files the same bars as shares of each file.
"""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr_qat.export.inspection.file_report import FileReport, StoredTensor

from .treemap import Box, squarify

FORMATS = (".png", ".svg", ".pdf")
OVERHEAD = "overhead"
_COLOURS = {  # of each part: its types from dark to light, the largest first
    "front end": ("#b35c00", "#e08214", "#fdb863", "#fee0b6"),
    "encoder": ("#1f5fa8", "#4a90d9", "#8fbce6", "#c6dcf2"),
    "decoder": ("#1b7837", "#5aae61", "#a6dba0", "#d9f0d3"),
    OVERHEAD: ("#8a8f98",),
}
_OTHERS = ("#762a83", "#9970ab", "#c2a5cf", "#e7d4e8")
_DARK = 2  # shades from here on take black text
_FEWEST_LETTERS = 8  # of a field's name that are worth writing
_LETTER = 0.0078  # width of a letter on a bar, of the whole width
_LEAST = 0.002  # of all bytes: the legend leaves smaller segments out
_TENSORS = 40  # in a map; the others of each part are one field

# What the converter adds to the name of a layer.
_OPERATION = re.compile(r"/(MatMul|Reshape|add|ReadVariableOp)(_?\d+)?$")

Segment = tuple[str, str, int]  # part, type ("" for the overhead), bytes


def segments(report: FileReport) -> list[Segment]:
    """What a file's bar is made of; the bytes add up to those of the file."""
    found = [
        (component.name, kind, count)
        for component in report.components
        for kind, count in component.totals.bytes_by_type.items()
    ]
    return [*found, (OVERHEAD, "", report.overhead.bytes)]


def size(count: float) -> str:
    """A number of bytes with its unit."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:.0f} bytes"


def _shades(reports: Sequence[FileReport]) -> dict[tuple[str, str], tuple[str, str]]:
    """(part, type) -> (colour, colour of text on it)."""
    sums: dict[tuple[str, str], int] = {}
    for report in reports:
        for part, kind, count in segments(report):
            sums[part, kind] = sums.get((part, kind), 0) + count
    shades, used = {}, dict.fromkeys((part for part, _ in sums), 0)
    for part, kind in sorted(sums, key=lambda key: -sums[key]):
        colours = _COLOURS.get(part, _OTHERS)
        place = min(used[part], len(colours) - 1)
        shades[part, kind] = colours[place], "black" if place >= _DARK else "white"
        used[part] += 1
    return shades


def draw(reports: Sequence[FileReport], path: Path) -> None:
    """Draws the picture.

    Args:
      reports: of one or more files.
      path: of the picture, .png, .svg or .pdf.

    Raises:
      ValueError: another kind of file, or matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: expected a picture's name ending in {', '.join(FORMATS)}")
    try:
        # At its first use it tells of the fonts that it found.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        from matplotlib.figure import Figure
    except ImportError as e:
        raise ValueError("needs matplotlib: pip install 'asr_qat[demo]'") from e
    bars = 1.1 + 0.55 * len(reports)
    below = 5.0 if len(reports) == 1 else bars
    figure = Figure(figsize=(11, bars + below + 0.8), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(bars, below))
    shades = _shades(reports)
    names = _names([report.path for report in reports])
    _bars(top, reports, names, shades, share=False)
    if len(reports) == 1:
        _map(bottom, reports[0], shades)
    else:
        _bars(bottom, reports, names, shades, share=True)
    handles, labels = top.get_legend_handles_labels()
    unique = {
        label: handle
        for label, handle in zip(labels, handles, strict=True)
        if handle.patches[0].get_width() > _LEAST * max(report.file_bytes for report in reports)
    }
    figure.legend(
        unique.values(),
        unique.keys(),
        loc="outside lower center",
        ncols=min(5, len(unique)),
        frameon=False,
        fontsize=9,
    )
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=120, format=path.suffix[1:].lower())
    os.replace(partial, path)


def _names(paths: Sequence[Path]) -> list[str]:
    """File names, with as many folders as tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path} [{index}]" for index, path in enumerate(paths, 1)]


def _bars(
    axis: Any,
    reports: Sequence[FileReport],
    names: Sequence[str],
    shades: dict[tuple[str, str], tuple[str, str]],
    share: bool,
) -> None:
    widest = 100.0 if share else max(report.file_bytes for report in reports)
    for row, report in enumerate(reports):
        scale = 100 / report.file_bytes if share else 1.0
        left = 0.0
        for part, kind, count in segments(report):
            colour, ink = shades[part, kind]
            width = count * scale
            label = f"{part} {kind}".strip()
            axis.barh(row, width, 0.7, left, color=colour, edgecolor="white", lw=0.5, label=label)
            figure = f"{width:.1f} %" if share else size(count)
            if width > _LETTER * widest * max(len(label), len(figure)):
                axis.text(
                    left + width / 2,
                    row,
                    f"{label}\n{figure}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=ink,
                )
            left += width
        if not share:
            bits = report.totals.bits_per_parameter
            axis.text(
                left + 0.01 * widest,
                row,
                f"{size(report.file_bytes)}\n{bits:.2f} bits a parameter",
                va="center",
                fontsize=8,
            )
    axis.set_yticks(range(len(reports)), names)
    axis.set_ylim(len(reports) - 0.5, -0.5)
    axis.set_xlim(0, widest * (1 if share else 1.18))
    axis.set_title("share of each file" if share else "bytes of the file", fontsize=11)
    if share:
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    else:
        axis.xaxis.set_major_formatter(lambda value, _: size(value) if value else "0")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _map(axis: Any, report: FileReport, shades: dict[tuple[str, str], tuple[str, str]]) -> None:
    """Every large tensor as a field, grouped by part, in proportion to its bytes."""
    largest = sorted(report.stored, key=lambda s: -s.tensor.stored_bytes)[:_TENSORS]
    groups = sorted(
        (c for c in report.components if c.totals.weight_bytes),
        key=lambda c: -c.totals.weight_bytes,
    )
    frame = Box(0, 0, 11, 4.6)  # about the shape of the axes, so that squares look square
    for group, box in zip(
        groups, squarify([c.totals.weight_bytes for c in groups], frame), strict=True
    ):
        fields: list[tuple[str, tuple[str, str], int]] = [
            (_field_name(s), shades[group.name, s.tensor.type], s.tensor.stored_bytes)
            for s in largest
            if s.component == group.name
        ]
        rest = group.totals.weight_bytes - sum(field[2] for field in fields)
        if rest:
            fields.append((f"smaller ones\n{size(rest)}", ("#d9d9d9", "black"), rest))
        for (label, (colour, ink), _), place in zip(
            fields, squarify([field[2] for field in fields], box), strict=True
        ):
            _field(axis, place, label, colour, ink)
        axis.add_patch(_rectangle(box, fill=False, edgecolor="white", lw=4))
    axis.set_xlim(0, frame.width)
    axis.set_ylim(0, frame.height)
    axis.set_axis_off()
    axis.set_title("constants, in proportion to their bytes", fontsize=11)


def _field_name(stored: StoredTensor) -> str:
    tensor = stored.tensor
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    name = "/".join(_OPERATION.sub("", tensor.name).split("/")[-3:])
    return f"{name}\n{tensor.type} {shape}\n{size(tensor.stored_bytes)}"


def _field(axis: Any, box: Box, label: str, colour: str, ink: str) -> None:
    axis.add_patch(_rectangle(box, facecolor=colour, edgecolor="white", lw=0.8))
    # In the units of the frame, a letter of 7 points is about 0.06 wide and 0.13 high.
    letters, lines = int(box.width / 0.065), label.split("\n")
    if letters >= _FEWEST_LETTERS and box.height > 0.13 * len(lines):
        axis.text(
            box.x + box.width / 2,
            box.y + box.height / 2,
            "\n".join(x if len(x) <= letters else f"{x[: letters - 1]}…" for x in lines),
            ha="center",
            va="center",
            fontsize=7,
            color=ink,
            clip_on=True,
        )


def _rectangle(box: Box, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((box.x, box.y), box.width, box.height, **style)
