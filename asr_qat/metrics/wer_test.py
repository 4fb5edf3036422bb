import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_qat.metrics.wer import (
    ErrorCounts,
    bootstrap_interval,
    count_errors,
    paired_bootstrap,
    sum_counts,
)


def _distance(reference, hypothesis):
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            last, row[j] = row[j], min(last + (word != other), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def test_counts():
    counts = count_errors(
        ["one two three", "four", "five six", "", "", "seven"],
        ["one too three four", "", "five six", "", "eight nine", "  seven "],
    )
    assert counts == [
        ErrorCounts(1, 0, 1, 3),
        ErrorCounts(0, 1, 0, 1),
        ErrorCounts(0, 0, 0, 2),
        ErrorCounts(0, 0, 0, 0),
        ErrorCounts(0, 0, 2, 0),
        ErrorCounts(0, 0, 0, 1),
    ]
    total = sum_counts(counts)
    assert total == ErrorCounts(1, 1, 3, 7)
    assert total.wer == pytest.approx(5 / 7)
    assert (ErrorCounts().wer, counts[4].wer) == (0.0, float("inf"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_counts_are_the_edit_distance(reference, hypothesis):
    (counts,) = count_errors([" ".join(reference)], [" ".join(hypothesis)])
    assert counts.errors == _distance(reference, hypothesis)
    assert counts.words == len(reference)
    assert counts.insertions - counts.deletions == len(hypothesis) - len(reference)


def test_unequal_lists():
    with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
        count_errors(["a", "b"], ["a"])


def test_interval_is_that_of_a_binomial():
    rng = np.random.default_rng(1)
    counts = [ErrorCounts(int(e), 0, 0, 1) for e in rng.random(2000) < 0.1]
    interval = bootstrap_interval(counts, resamples=4000)
    assert interval.low < interval.value < interval.high
    half = 1.96 * np.sqrt(interval.value * (1 - interval.value) / 2000)
    assert interval.low == pytest.approx(interval.value - half, abs=0.002)
    assert interval.high == pytest.approx(interval.value + half, abs=0.002)
    assert interval == bootstrap_interval(counts, resamples=4000)
    assert interval != bootstrap_interval(counts, resamples=4000, seed=1)


def test_paired_difference():
    rng = np.random.default_rng(0)
    hard = rng.random(500) < 0.3
    better = [ErrorCounts(2 * int(h), 0, 0, 5) for h in hard]
    worse = [ErrorCounts(2 * int(h) + int(rng.random() < 0.1), 0, 0, 5) for h in hard]
    result = paired_bootstrap(worse, better, resamples=2000)
    assert 0 < result.low < result.difference < result.high
    assert result.difference == pytest.approx(sum_counts(worse).wer - sum_counts(better).wer)
    assert result.share_a_better == 0.0
    # Far narrower than the interval of either system: what is hard for both cancels.
    alone = bootstrap_interval(better, resamples=2000)
    assert result.high - result.low < 0.6 * (alone.high - alone.low)
    same = paired_bootstrap(better, better, resamples=200)
    assert (same.difference, same.low, same.high, same.share_a_better) == (0.0, 0.0, 0.0, 0.5)


def test_bad_arguments():
    one = [ErrorCounts(0, 0, 0, 1)]
    for counts in ([], [ErrorCounts()]):
        with pytest.raises(ValueError, match="reference words"):
            bootstrap_interval(counts)
    with pytest.raises(ValueError, match="same utterances"):
        paired_bootstrap(one, [ErrorCounts(0, 0, 0, 2)])
    with pytest.raises(ValueError, match="same utterances"):
        paired_bootstrap(one, one * 2)
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(one, confidence=95)
