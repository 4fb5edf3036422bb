import numpy as np
import pytest

from asr_qat.metrics.bootstrap import bootstrap_interval, paired_bootstrap
from asr_qat.metrics.wer import ErrorCounts, group_counts, sum_counts


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


def _test_set(rng, speakers, utterances, spread):
    """Counts and speakers of a test set; the speakers' true error rates differ by ``spread``."""
    rates = 0.2 + spread * rng.uniform(-1, 1, speakers)
    errors = rng.binomial(5, np.repeat(rates, utterances))
    names = np.repeat(np.arange(speakers), utterances)
    return [ErrorCounts(int(e), 0, 0, 5) for e in errors], names.tolist()


def _coverage(spread, by_speaker):
    """Share of the intervals of 200 test sets that hold the true rate, 20 %."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        counts, speakers = _test_set(rng, 30, 10, spread)
        units = list(group_counts(counts, speakers).values()) if by_speaker else counts
        interval = bootstrap_interval(units, resamples=300)
        held += interval.low <= 0.2 <= interval.high
    return held / 200


def test_intervals_hold_the_true_rate_as_often_as_they_say():
    assert 0.91 <= _coverage(spread=0.0, by_speaker=False) <= 0.99
    assert 0.90 <= _coverage(spread=0.19, by_speaker=True) <= 0.99
    # Utterances of a speaker share that speaker's rate: intervals over them are too narrow.
    assert _coverage(spread=0.19, by_speaker=False) < 0.8


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
