"""Tables on a terminal."""

from collections.abc import Sequence
from typing import TextIO


def print_table(rows: Sequence[Sequence[str]], stream: TextIO | None = None) -> None:
    """Prints rows of equal length in columns; numbers align right, the last column is free."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    numeric = [
        len(rows) > 1 and all(row[i][:1].isdigit() or row[i] == "?" for row in rows[1:])
        for i in range(len(widths))
    ]
    for row in rows:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        print("  ".join(cells).rstrip(), file=stream)
