"""Tests of dividing a rectangle."""

import numpy as np
import pytest

from asr_qat.tools.treemap import Box, squarify


@pytest.mark.parametrize("box", [Box(0, 0, 6, 4), Box(-1, 2, 3, 30)])
def test_areas_are_in_proportion_and_fill_the_box_without_overlap(box):
    values = sorted(np.random.default_rng(0).integers(1, 1000, 30).tolist(), reverse=True)
    boxes = squarify(values, box)
    area = box.width * box.height / sum(values)
    assert [b.width * b.height for b in boxes] == pytest.approx([area * v for v in values])
    for i, a in enumerate(boxes):
        assert box.x - 1e-9 <= a.x and a.x + a.width <= box.x + box.width + 1e-9
        assert box.y - 1e-9 <= a.y and a.y + a.height <= box.y + box.height + 1e-9
        for b in boxes[:i]:
            wide = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
            high = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
            assert wide < 1e-9 or high < 1e-9


def test_the_example_of_the_paper():
    boxes = squarify([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))
    assert boxes[0] == Box(0, 0, 3, 2) and boxes[1] == Box(0, 2, 3, 2)
    assert max(max(b.width / b.height, b.height / b.width) for b in boxes) < 3


def test_no_values_and_equal_ones():
    assert squarify([], Box(0, 0, 1, 1)) == []
    assert all(b.width == b.height == 1 for b in squarify([1] * 4, Box(0, 0, 2, 2)))
