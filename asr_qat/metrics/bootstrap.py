"""Confidence intervals of error rates: percentile bootstraps.

M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
ICASSP 2004. What is drawn must be independent: utterances of one speaker are not quite, and
intervals over them come out too narrow. Give totals of speakers (`group_counts`) in place of
utterances to draw whole speakers, the block bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .wer import ErrorCounts, error_arrays, paired_arrays, sum_counts

_DRAWS_AT_ONCE = 1_000_000  # bounds the memory of resampling to some tens of MB


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """How much worse (above 0) or better (below 0) system A is than system B."""

    difference: float  # error rate of A minus error rate of B
    low: float
    high: float
    share_a_better: float  # share of the resamples in which A has the lower rate; ties count half


def bootstrap_interval(
    counts: Sequence[ErrorCounts],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Error rate of a test set with its confidence interval.

    Args:
      counts: one for each utterance, or for each speaker.
      confidence: probability mass of the interval.
      resamples: number of test sets drawn, with replacement, from the utterances.
      seed: seed of the draws.

    Raises:
      ValueError: there are no reference words, or an argument makes no sense.
    """
    _check(confidence, resamples)
    errors, words = error_arrays(counts)
    rates = _resampled_rates([errors], words, resamples, seed)[0]
    low, high = np.quantile(rates, _tails(confidence))
    return Interval(value=sum_counts(counts).wer, low=float(low), high=float(high))


def paired_bootstrap(
    counts_a: Sequence[ErrorCounts],
    counts_b: Sequence[ErrorCounts],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Difference in error rate of two systems on the same utterances, with its interval.

    Both systems are scored on the same resampled utterances, so what makes an utterance hard for
    both cancels.

    Args:
      counts_a: one for each utterance, or for each speaker, of system A.
      counts_b: the same in the same order, of system B.
      confidence: probability mass of the interval.
      resamples: number of test sets drawn, with replacement, from the utterances.
      seed: seed of the draws.

    Raises:
      ValueError: the systems were not scored on the same references, there are no reference
        words, or an argument makes no sense.
    """
    _check(confidence, resamples)
    errors_a, errors_b, words = paired_arrays(counts_a, counts_b)
    rates_a, rates_b = _resampled_rates([errors_a, errors_b], words, resamples, seed)
    differences = rates_a - rates_b
    low, high = np.quantile(differences, _tails(confidence))
    return PairedDifference(
        difference=sum_counts(counts_a).wer - sum_counts(counts_b).wer,
        low=float(low),
        high=float(high),
        share_a_better=float(np.mean(differences < 0) + 0.5 * np.mean(differences == 0)),
    )


def _check(confidence: float, resamples: int) -> None:
    if not 0.0 < confidence < 1.0 or resamples < 1:
        raise ValueError(
            f"expected confidence in (0, 1) and resamples >= 1, got {confidence} and {resamples}"
        )


def _resampled_rates(
    errors: Sequence[np.ndarray], words: np.ndarray, resamples: int, seed: int
) -> list[np.ndarray]:
    """Error rate `[resamples]` of each system on the same resampled test sets."""
    rng = np.random.default_rng(seed)
    count = len(words)
    at_once = max(_DRAWS_AT_ONCE // count, 1)
    rates: list[list[np.ndarray]] = [[] for _ in errors]
    for start in range(0, resamples, at_once):
        draws = rng.integers(count, size=(min(at_once, resamples - start), count))
        # A draw of nothing but wordless utterances has no rate; one word keeps it finite.
        totals = np.maximum(words[draws].sum(axis=1), 1.0)
        for own, of_system in zip(rates, errors, strict=True):
            own.append(of_system[draws].sum(axis=1) / totals)
    return [np.concatenate(own) for own in rates]


def _tails(confidence: float) -> tuple[float, float]:
    return (1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0
