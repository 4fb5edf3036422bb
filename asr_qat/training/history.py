"""The table of a run's epochs, ``history.csv``."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras


def read_history(path: Path) -> dict[str, list[float]]:
    """Values by name, one an epoch, of all parts of a run."""
    with path.open(newline="") as file:
        return by_name(list(csv.DictReader(file)))


def by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The same of a table's rows; a name that the first lacks is left out."""
    names = [name for name, value in rows[0].items() if name != "epoch" and value != "NA"]
    return {name: [float(row[name]) for row in rows] for name in names}


class History(keras.callbacks.Callback):
    """Writes a row for each epoch: all that callbacks before it put into the epoch's logs.

    Checkpoints hold the rows (it is a `checkpoints.Part`), so a run that goes on from one has
    each epoch once.

    Args:
        path: of the file, which is always whole; None for no file.
    """

    name = "history"

    def __init__(self, path: Path | None):
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epoch's row."""
        self.rows.append({"epoch": epoch, **{k: float(v) for k, v in (logs or {}).items()}})
        self._write()

    def get_state(self):
        """The rows."""
        return {"rows": self.rows}

    def set_state(self, state):
        """Goes on after these rows."""
        self.rows = list(state["rows"])
        self._write()

    def _write(self):
        if self.path is not None and self.rows:
            write_rows(self.path, self.rows)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a table, "NA" where a row lacks a value, and then renames it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, names, restval="NA", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(table.getvalue())
    os.replace(partial, path)
