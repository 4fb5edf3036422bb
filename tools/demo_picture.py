"""The demo's result as one picture."""

import os
from pathlib import Path
from typing import Any

NAMES = {"float": "float32", "int4": "int4, trained", "ptq_int4": "int4, after training"}
COLOURS = ("#8a8f98", "#1f6feb", "#d9822b")


def draw(report: dict[str, Any], path: Path) -> None:
    """Bars for word error rate, bytes of the encoder's weights, and real-time factor.

    Args:
        report: as in report.json.
        path: of the PNG file.

    Raises:
        ValueError: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as e:
        raise ValueError("needs matplotlib: pip install 'asr_qat[demo]'") from e
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = (
        ("word error rate, %", [100 * report[name]["wer"] for name in NAMES], "{:.2f}"),
        ("encoder weights, MB", [report["encoder_bytes"][name] / 1e6 for name in NAMES], "{:.2f}"),
        ("real-time factor, one thread", [report[name]["rtf"] for name in NAMES], "{:.4f}"),
    )
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for axis, (title, values, form) in zip(axes, panels, strict=True):
        bars = axis.barh(list(NAMES.values()), values, color=COLOURS)
        axis.bar_label(bars, [form.format(v) for v in values], padding=4)
        axis.set_title(title, fontsize=11)
        axis.set_xlim(0, 1.25 * max(values) or 1)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[1:]:
        axis.set_yticklabels([])
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=120, format="png")
    pyplot.close(figure)
    os.replace(partial, path)
