"""Tests of weights: what a path gets is the weighted sum of what its parts give."""

import pytest

from asr_qat.runtime.search.fusion import LabelBonus, Weighted, density_ratio
from asr_qat.runtime.search.phrases import PhraseBias

PIECES = ["<blank>", "▁a", "b", "▁b"]


def total(scorer, path):
    state, found = scorer.start(), 0.0
    for label in path:
        found += float(scorer.scores(state)[label])
        state = scorer.advance(state, label)
    return found + scorer.final(state)


def test_weights():
    one, two = PhraseBias({"ab": 1.0}, PIECES), PhraseBias({"b": 1.0}, PIECES)
    path = [1, 2, 3]  # "ab b": 2 and 1
    assert total(Weighted(one, 0.25), path) == 0.5
    assert total(Weighted(one, 0.25), path[:1]) == 0  # the end is weighted, too
    ratio = density_ratio(one, 0.5, two, 0.25)
    assert sum(total(scorer, path) for scorer in ratio) == 0.75


def test_the_bonus_is_for_labels_and_not_for_the_blank():
    bonus = LabelBonus(4, 0.5)
    assert bonus.scores(None).tolist() == [0, 0.5, 0.5, 0.5]
    assert total(bonus, [1, 3]) == 1.0
    with pytest.raises(ValueError, match="read-only"):
        bonus.scores(None)[0] = 1
