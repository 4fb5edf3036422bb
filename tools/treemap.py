"""Rectangles whose areas are in proportion to values (squarified treemap).

Source: Bruls, Huizing, van Wijk, "Squarified treemaps", 2000.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    x: float  # left
    y: float  # lower edge
    width: float
    height: float


def squarify(values: Sequence[float], box: Box) -> list[Box]:
    """Divides a box among values, each piece as close to a square as a row allows.

    Args:
      values: all > 0; the largest first gives the best shapes.
      box: to divide.

    Returns:
      One box for each value, in their order.
    """
    boxes: list[Box] = []
    left = list(values)
    while left:
        count = _row_length(left, box)
        row, rest = left[:count], left[count:]
        share = sum(row) / sum(left)
        upright = box.width >= box.height  # a column at the left, or a row at the bottom
        strip = (
            Box(box.x, box.y, box.width * share, box.height)
            if upright
            else Box(box.x, box.y, box.width, box.height * share)
        )
        position = 0.0
        for value in row:
            part = value / sum(row)
            boxes.append(
                Box(strip.x, strip.y + position * strip.height, strip.width, part * strip.height)
                if upright
                else Box(
                    strip.x + position * strip.width, strip.y, part * strip.width, strip.height
                )
            )
            position += part
        if upright:
            box = Box(box.x + strip.width, box.y, box.width - strip.width, box.height)
        else:
            box = Box(box.x, box.y + strip.height, box.width, box.height - strip.height)
        left = rest
    return boxes


def _row_length(values: Sequence[float], box: Box) -> int:
    """How many values the next row takes: as long as its worst aspect ratio gets no worse."""
    total = sum(values)
    area, side = box.width * box.height, min(box.width, box.height)
    best = float("inf")
    for count in range(1, len(values) + 1):
        row = values[:count]
        thickness = area * sum(row) / total / side if side else 0.0
        lengths = [side * value / sum(row) for value in (row[0], row[-1])]
        worst = max(
            max(thickness / length, length / thickness) if thickness and length else 1.0
            for length in lengths
        )
        if worst > best:
            return count - 1
        best = worst
    return len(values)
