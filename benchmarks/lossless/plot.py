"""The study's picture: what each file loses against float, by size."""

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
    """A panel for each test set: each file's word error rate above float's, 95 % intervals.

    Args:
        rows: of the report; of systems with several seeds only their sum is drawn.
        tests: names of the test sets.
        path: of the PNG.
    """
    shown = [_drawn(rows, test) for test in tests]
    height = 1.5 + 0.24 * max(map(len, shown))
    figure, axes = plt.subplots(1, len(tests), figsize=(6 * len(tests), height), squeeze=False)
    for axis, test, chosen in zip(axes[0], tests, shown, strict=True):
        axis.axvline(0, color="gray", linewidth=0.8)
        for place, row in enumerate(chosen):
            value, low, high = (100 * row[k] for k in ("difference_to_float", "ci_low", "ci_high"))
            color = COLORS.get(row["method"], BASELINE)
            axis.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=color)
        axis.set_yticks(range(len(chosen)), [_name(row) for row in chosen], fontsize=8)
        axis.set_xlabel("WER minus float, points")
        axis.set_title(test.replace("_", " "))
    for label, color in (*COLORS.items(), ("after training", BASELINE)):
        axes[0, -1].plot([], [], "o", color=color, label=label.replace("_", " "))
    axes[0, -1].legend(fontsize=8)
    figure.tight_layout()
    partial = path.with_name(f".{path.name}.partial.png")
    figure.savefig(partial, dpi=110)
    plt.close(figure)
    os.replace(partial, path)


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
