"""The study's picture: what each file loses against float, by size."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter

COLORS = {"ours": "tab:blue", "fake_quant": "tab:orange"}
BASELINE = "tab:red"  # post-training
TICKS = (-10, -3, -1, -0.5, 0, 0.5, 1, 3, 10, 30, 100)


def plot(rows: Sequence[dict[str, Any]], tests: Sequence[str], path: Path) -> None:
    """A panel for each test set: each file's word error rate above float's, 95 % intervals.

    Args:
        rows: of the report; of systems with several seeds only their sum is drawn.
        tests: names of the test sets.
        path: of the PNG.
    """
    tallest = max(len(_drawn(rows, test)) for test in tests)
    size = (6 * len(tests), 1.5 + 0.2 * tallest)
    figure, axes = plt.subplots(1, len(tests), figsize=size, squeeze=False)
    for axis, test in zip(axes[0], tests, strict=True):
        _panel(axis, test, _drawn(rows, test))
    for label, color in (*COLORS.items(), ("after training", BASELINE)):
        axes[0, 0].plot([], [], "o", color=color, label=label.replace("_", " "))
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    partial = path.with_name(f".{path.name}.partial.png")
    figure.savefig(partial, dpi=110)
    plt.close(figure)
    os.replace(partial, path)


def _panel(axis, test, chosen):
    axis.axvline(0, color="gray", linewidth=0.8)
    for place, row in enumerate(chosen):
        value, low, high = (100 * row[k] for k in ("difference_to_float", "ci_low", "ci_high"))
        color = COLORS.get(row["method"], BASELINE)
        axis.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=color)
    axis.set_yticks(range(len(chosen)), [_name(row) for row in chosen], fontsize=8)
    axis.set_xscale("symlog", linthresh=1)  # two bits after training may lose fifty points
    axis.xaxis.set_major_locator(FixedLocator(TICKS))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axis.set_xlabel("WER minus float, points")
    axis.set_title(test.replace("_", " "))


def _drawn(rows, test):
    chosen = [r for r in rows if r["test_set"] == test and r["difference_to_float"] is not None]
    summed = {(r["run"], r["recipe"], r["method"]) for r in chosen if r["seed"] == "all"}
    kept = [
        r
        for r in chosen
        if r["seed"] == "all" or (r["run"], r["recipe"], r["method"]) not in summed
    ]
    return sorted(kept, key=lambda row: (-row["bytes"], row["run"]))


def _name(row):
    name = row["run"] if row["method"] in COLORS else f"{row['method']} {row['recipe'][10]} bits"
    return f"{name}, {row['bytes'] / 1e6:.2f} MB"
