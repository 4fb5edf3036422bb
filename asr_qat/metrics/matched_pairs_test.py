import dataclasses

import numpy as np
import pytest

from asr_qat.metrics.matched_pairs import matched_pairs
from asr_qat.metrics.wer import ErrorCounts


def _counts(errors, words=6):
    return [ErrorCounts(int(e), 0, 0, words) for e in errors]


def _two_systems(seed, utterances=80, extra=0.1):
    rng = np.random.default_rng(seed)
    errors = rng.binomial(6, 0.2, (2, utterances))
    errors[0] += rng.random(utterances) < extra
    return _counts(errors[0]), _counts(errors[1])


def test_a_case_worked_by_hand():
    # Z = 1, 0, 2, 1: mean 1, variance 2/3, W = 1 / √(2/12) = 2.449; 2 · (1 - Φ(2.449)) = 0.0143
    result = matched_pairs(_counts([2, 1, 3, 1]), _counts([1, 1, 1, 0]))
    assert result.p_value == pytest.approx(0.0143, abs=1e-4)
    assert result.difference == pytest.approx(4 / 24)
    assert result.standard_error == pytest.approx(4 * np.sqrt(2 / 12) / 24)
    assert (result.segments, result.differing) == (4, 3)


def test_it_is_the_paired_test_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    for seed in range(5):
        a, b = _two_systems(seed)
        pairs = [[c.errors for c in counts] for counts in (a, b)]
        statistic = stats.ttest_rel(*pairs).statistic
        result = matched_pairs(a, b)
        assert result.difference / result.standard_error == pytest.approx(statistic)
        assert result.p_value == pytest.approx(2 * stats.norm.sf(abs(statistic)))


def test_it_agrees_with_exchanging_the_systems_at_random():
    a, b = _two_systems(3)
    z = np.array([x.errors - y.errors for x, y in zip(a, b, strict=True)])
    signs = np.random.default_rng(0).choice([-1, 1], (20_000, len(z)))
    sums, seen = np.abs(signs @ z), abs(z.sum())
    exchanged = np.mean(sums > seen) + np.mean(sums == seen) / 2  # sums are whole numbers: ties
    assert 0.01 < exchanged < 0.9
    assert matched_pairs(a, b).p_value == pytest.approx(exchanged, abs=0.02)


def test_equal_systems_are_rejected_as_often_as_the_level_says():
    rejected = [matched_pairs(*_two_systems(s, extra=0)).p_value < 0.05 for s in range(400)]
    assert 0.02 < np.mean(rejected) < 0.09


def test_identical_systems_and_order():
    a, b = _two_systems(0)
    assert matched_pairs(a, a).p_value == 1.0 and matched_pairs(a, a).differing == 0
    one, other = matched_pairs(a, b), matched_pairs(b, a)
    assert other == dataclasses.replace(one, difference=-one.difference)
    order = np.random.default_rng(0).permutation(len(a))
    assert matched_pairs([a[i] for i in order], [b[i] for i in order]) == one
    constant = matched_pairs(_counts([1, 1]), _counts([0, 0]))
    assert (constant.p_value, constant.standard_error) == (0.0, 0.0)


def test_few_differing_segments():
    """The numbers of the docstring."""
    a, b = _counts([1] * 5 + [0] * 995), _counts([0] * 1000)
    assert matched_pairs(a, b).p_value == pytest.approx(0.025, abs=5e-4)


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least two segments to test, got 1"):
        matched_pairs(_counts([1]), _counts([0]))
    with pytest.raises(ValueError, match="same utterances"):
        matched_pairs(_counts([1, 1]), _counts([1, 1], words=7))
