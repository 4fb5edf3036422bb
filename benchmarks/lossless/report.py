"""The study's report: rows of `report.json`, printed tables and plots."""

import dataclasses
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from plot import plot
from task import Task

from asr_qat.metrics.bootstrap import paired_bootstrap
from asr_qat.metrics.matched_pairs import matched_pairs
from asr_qat.metrics.wer import ErrorCounts, count_errors, group_counts, sum_counts
from asr_qat.tools.table import print_table

REPORT = Path(__file__).parent / "report.json"
PICTURE = Path(__file__).parents[2] / "docs" / "lossless.png"
FLOAT = ("float", "float32", "ours")
RIVALS = {"int8": "wi8", "int4": "wi4", "int2": "wi2"}  # our run, and the baselines' recipes
Counts = list[ErrorCounts]


@dataclasses.dataclass(frozen=True)
class Scored:
    """A file's errors on a test set, utterance by utterance."""

    model: str
    run: str
    recipe: str
    method: str
    seed: int | str
    test_set: str
    bytes: int
    counts: Counts
    speakers: tuple[str, ...]
    real_time_factor: float

    @property
    def system(self) -> tuple[str, str, str]:
        """What it is, whatever the model and the seed."""
        return self.run, self.recipe, self.method


def read_results(task: Task, out: Path) -> list[Scored]:
    """What files have been evaluated, and for each system of several seeds their sum."""
    found = []
    for path in sorted(out.glob("seed*/*/*.json")):
        result = json.loads(path.read_text())
        for test in task.tests if "tests" in result else ():
            heard, utterances = result["tests"][test], task.sets[test]
            name = (result["model"], result["recipe"], result["method"], result["seed"])
            found.append(
                Scored(
                    task.model,
                    *name,
                    test,
                    result["bytes"],
                    count_errors([u.text for u in utterances], heard["texts"]),
                    tuple(u.speaker for u in utterances),
                    heard["processing_seconds"] / heard["audio_seconds"],
                )
            )
    return found + _of_all_seeds(found)


def _of_all_seeds(found: list[Scored]) -> list[Scored]:
    """Each utterance's errors in every seed, added: seeds share the utterances' difficulty."""
    grouped: dict[tuple, list[Scored]] = defaultdict(list)
    for one in found:
        grouped[*one.system, one.test_set].append(one)
    return [
        dataclasses.replace(
            each[0],
            seed="all",
            counts=[sum_counts(c) for c in zip(*(one.counts for one in each), strict=True)],
            real_time_factor=sum(one.real_time_factor for one in each) / len(each),
        )
        for each in grouped.values()
        if len(each) > 1
    ]


def rows_of(found: list[Scored]) -> list[dict[str, Any]]:
    """The rows of the report; intervals are of the difference to float, same seed and test set.

    ``ci_low`` and ``ci_high`` resample utterances, ``speaker_ci_…`` speakers; ``p_value`` is that
    of the matched-pairs test.
    """
    floats = {(one.seed, one.test_set): one for one in found if one.system == FLOAT}
    return [_row(one, floats.get((one.seed, one.test_set))) for one in found]


def _row(one: Scored, reference: Scored | None) -> dict[str, Any]:
    total = sum_counts(one.counts)
    row: dict[str, Any] = {
        "model": one.model,
        "run": one.run,
        "recipe": one.recipe,
        "method": one.method,
        "seed": one.seed,
        "test_set": one.test_set,
        "wer": round(total.wer, 6),
        **dataclasses.asdict(total),
        "bytes": one.bytes,
        "real_time_factor": round(one.real_time_factor, 5),
        "difference_to_float": None,
        "ci_low": None,
        "ci_high": None,
    }
    if reference is None or one.system == FLOAT:
        return row
    paired = paired_bootstrap(one.counts, reference.counts)
    blocks = [list(group_counts(c.counts, one.speakers).values()) for c in (one, reference)]
    by_speaker = paired_bootstrap(*blocks)
    return row | {
        "difference_to_float": round(paired.difference, 6),
        "ci_low": round(paired.low, 6),
        "ci_high": round(paired.high, 6),
        "speaker_ci_low": round(by_speaker.low, 6),
        "speaker_ci_high": round(by_speaker.high, 6),
        "p_value": round(matched_pairs(one.counts, reference.counts).p_value, 6),
    }


def best_baseline(found: list[Scored], ours: Scored) -> Scored | None:
    """Of the files quantized after training to as many bits, the one with the fewest errors."""
    files = [
        one
        for one in found
        if (one.seed, one.test_set) == (ours.seed, ours.test_set)
        if one.method not in ("ours", "fake_quant") and RIVALS[ours.run] in one.recipe
    ]
    return min(files, key=lambda one: sum_counts(one.counts).errors, default=None)


def versus_baseline(found: list[Scored]) -> list[tuple[str, ...]]:
    """Ours minus the best file quantized after training, which the test set itself has chosen."""
    rows = []
    for one in found:
        other = best_baseline(found, one) if one.run in RIVALS and one.method == "ours" else None
        if other is not None:
            paired = paired_bootstrap(one.counts, other.counts)
            values = (paired.difference, paired.low, paired.high)
            text = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * value for value in values))
            rows.append((one.test_set, str(one.seed), one.run, other.method, text))
    return sorted(rows)


def write_report(task: Task, out: Path) -> None:
    """Prints the tables, and writes ``report.json`` and the plot.

    Args:
        task: what was recognised.
        out: the folder of the results.
    """
    found = read_results(task, out)
    rows = sorted(rows_of(found), key=_order)
    for test in task.tests:
        chosen = [row for row in rows if row["test_set"] == test]
        if chosen:
            print(f"\n{test}")
            print_table([_HEADER, *map(_printed, chosen)])
    versus = versus_baseline(found)
    if versus:
        print("\nours minus the best file quantized after training to as many bits")
        print_table([("test set", "seed", "ours", "that file", "points [95 %]"), *versus])
    partial = REPORT.with_name(".report.json.partial")
    partial.write_text(json.dumps(rows, indent=1) + "\n")
    os.replace(partial, REPORT)
    if rows:
        plot(rows, task.tests, PICTURE)
    print(f"\n{REPORT}: {len(rows)} rows; {PICTURE}")


_HEADER = ("run", "recipe", "method", "seed", "WER %", "S", "D", "I", "MB", "minus float", "p")


def _order(row):
    return row["test_set"], str(row["seed"]) != "all", str(row["seed"]), row["method"], row["wer"]


def _printed(row) -> tuple[str, ...]:
    difference = ""
    if row["difference_to_float"] is not None:
        difference = "{difference_to_float:+.2f} [{ci_low:+.2f}, {ci_high:+.2f}]".format(
            **{k: 100 * row[k] for k in ("difference_to_float", "ci_low", "ci_high")}
        )
    counts = (str(row[k]) for k in ("substitutions", "deletions", "insertions"))
    recipe = row["recipe"] if len(row["recipe"]) < 44 else row["recipe"][:41] + "…"
    size, p = f"{row['bytes'] / 1e6:.2f}", f"{row['p_value']:.3f}" if "p_value" in row else ""
    start = (row["run"], recipe, row["method"], str(row["seed"]), f"{100 * row['wer']:.2f}")
    return (*start, *counts, size, difference, p)
