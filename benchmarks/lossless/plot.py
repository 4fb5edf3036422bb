"""The study's picture: what each file loses against float, over its size."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

COLORS = {"ours": "tab:blue", "fake_quant": "tab:orange"}
BASELINE = "tab:red"  # post-training


def plot(rows: Sequence[dict[str, Any]], tests: Sequence[str], path: Path) -> None:
    """A panel for each test set: points of word error rate above float, with 95 % intervals.

    Args:
        rows: of the report; of systems with several seeds only their sum is drawn.
        tests: names of the test sets.
        path: of the PNG.
    """
    figure, axes = plt.subplots(len(tests), 1, figsize=(9, 4.2 * len(tests)), squeeze=False)
    for axis, test in zip(axes[:, 0], tests, strict=True):
        for row in _drawn(rows, test):
            value, low, high = (100 * row[k] for k in ("difference_to_float", "ci_low", "ci_high"))
            color = COLORS.get(row["method"], BASELINE)
            size = row["bytes"] / 1e6
            axis.errorbar(size, value, [[value - low], [high - value]], fmt="o", color=color)
            name = row["run"] if row["method"] == "ours" else row["method"]
            axis.annotate(name, (size, value), xytext=(4, 3), textcoords="offset points", size=7)
        axis.axhline(0, color="gray", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_xlabel("file, MB")
        axis.set_ylabel("WER minus float, points")
        axis.set_title(test.replace("_", " "))
    for label, color in (*COLORS.items(), ("after training", BASELINE)):
        axes[0, 0].plot([], [], "o", color=color, label=label.replace("_", " "))
    axes[0, 0].legend()
    figure.tight_layout()
    partial = path.with_name(f".{path.name}.partial.png")
    figure.savefig(partial, dpi=110)
    plt.close(figure)
    os.replace(partial, path)


def _drawn(rows, test):
    chosen = [r for r in rows if r["test_set"] == test and r["difference_to_float"] is not None]
    summed = {(r["run"], r["recipe"], r["method"]) for r in chosen if r["seed"] == "all"}
    return [
        r
        for r in chosen
        if r["seed"] == "all" or (r["run"], r["recipe"], r["method"]) not in summed
    ]
