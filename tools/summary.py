"""`asr-qat summary`: what training runs came to, or how far they are."""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

HELP = "print the table of a training run, or several runs side by side"

EPILOG = """\
example:
  asr-qat summary runs/float
  asr-qat summary runs/*

Works on the OUT folders of asr-qat train, also while a run goes on or after it was interrupted."""

# Of history.csv: name, heading, how it is shown.
COLUMNS = (
    ("loss", "loss", "{:.3f}"),
    ("val_loss", "val loss", "{:.3f}"),
    ("wer", "dev WER %", "{:.2f}"),
    ("learning_rate", "rate", "{:.2e}"),
    ("step_ms", "ms a step", "{:.0f}"),
    ("audio_h_per_h", "audio h/h", "{:.0f}"),
    ("sparsity", "zeros %", "{:.1f}"),
)
_PERCENT = ("wer", "sparsity")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Prints loss, validation loss, word error rate on the dev sample, learning rate and speed "
        "of every epoch of a run; of several runs, of their last epochs."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")


def summarize(folder: Path) -> dict[str, Any]:
    """What is known of a run, JSON-ready.

    Returns:
        Its path, whether it is finished, step and steps, epochs that are done and wanted, hours of
        recordings in all and seconds trained, recipes, commit, and the rows of its history.

    Raises:
        ValueError: if there is no run in the folder.
    """
    finished = (folder / "model.keras").is_file() and (folder / "run.json").is_file()
    record = _json(folder / "run.json") if finished else _newest_metadata(folder)
    rows = _rows(folder / "history.csv")
    if record is None and not rows:
        raise ValueError(
            f"{folder}: no run here; expected run.json, checkpoints/ or history.csv, written by "
            "`asr-qat train --out`"
        )
    record = record or {}
    speed = record.get("parts", {}).get("speed", {})
    rules = record.get("policy", [])
    recipes = list(dict.fromkeys(recipe for _, recipe in rules)) or ["float32"]
    return {
        "run": str(folder),
        "finished": finished,
        "step": record.get("steps") if finished else record.get("step"),
        "steps": record.get("steps"),
        "epochs_done": len(rows),
        "epochs": record.get("training", {}).get("epochs"),
        "trained_hours": record.get("trained_hours", speed.get("total_hours")),
        "trained_seconds": record.get("trained_seconds", speed.get("total_seconds")),
        "recipes": recipes if record else None,
        "commit": record.get("commit"),
        "history": rows,
    }


def _newest_metadata(folder):
    from asr_qat.training.checkpoint_files import (
        FOLDER,
        CheckpointError,
        checkpoint_paths,
        read_metadata,
    )

    for path in reversed(checkpoint_paths(folder / FOLDER)):
        try:
            return read_metadata(path)
        except CheckpointError as error:
            print(error, file=sys.stderr)
    return None


def _json(path):
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error


def _rows(path):
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    try:
        return [{k: float(v) for k, v in row.items() if v != "NA"} for row in table]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a table of numbers: {error}") from error


def cell(row: dict[str, float], name: str, form: str) -> str:
    """A value of an epoch as it is shown; "?" where it has none."""
    if name not in row:
        return "?"
    return form.format(row[name] * (100 if name in _PERCENT else 1))


def known(runs: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The columns that some epoch of the runs has."""
    names = {name for run in runs for row in run["history"] for name in row}
    return [column for column in COLUMNS if column[0] in names]


def state(run: dict[str, Any]) -> str:
    """How far a run is, in words."""
    if run["finished"]:
        return "finished"
    if run["step"] is None:
        return "interrupted before its first checkpoint, or running"
    return f"interrupted at step {run['step']} of {run['steps']}, or running"


def epochs(run: dict[str, Any]) -> str:
    """Epochs done and wanted."""
    return f"{run['epochs_done']} of {run['epochs'] or '?'}"


def one_table(run: dict[str, Any]) -> list[tuple[str, ...]]:
    """The epochs of a run, headings first."""
    columns = known([run])
    rows = [("epoch", *(heading for _, heading, _ in columns))]
    for number, row in enumerate(run["history"], start=1):
        rows.append((str(number), *(cell(row, name, form) for name, _, form in columns)))
    return rows


def side_by_side(runs: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The last epochs of runs, headings first."""
    columns = known(runs)
    headings = [heading for _, heading, _ in columns]
    rows = [("run", "epochs", *headings, "hours", "precision", "commit", "state")]
    for run in runs:
        last = run["history"][-1] if run["history"] else {}
        rows.append(
            (
                run["run"],
                epochs(run),
                *(cell(last, name, form) for name, _, form in columns),
                _number(run["trained_hours"]),
                "+".join(run["recipes"] or ["?"]),
                (run["commit"] or "?")[:9],
                state(run),
            )
        )
    return rows


def _number(value):
    return "?" if value is None else f"{value:.2f}"


def run(args: argparse.Namespace) -> int:
    """Prints the tables."""
    from .table import print_table

    runs = [summarize(Path(folder)) for folder in args.runs]
    if args.json:
        print(json.dumps({"runs": runs}))
        return 0
    if len(runs) > 1:
        print_table(side_by_side(runs))
        return 0
    one = runs[0]
    if one["history"]:
        print_table(one_table(one))
    minutes = one["trained_seconds"]
    print(
        f"{one['run']}: {state(one)}; {epochs(one)} epochs, {_number(one['trained_hours'])} h of "
        f"recordings in {'?' if minutes is None else f'{minutes / 60:.1f}'} min; precision "
        f"{'+'.join(one['recipes'] or ['?'])}; commit {(one['commit'] or '?')[:9]}"
    )
    if not one["finished"]:
        print("The command that began it goes on with it.")
    return 0


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
