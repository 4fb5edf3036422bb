"""Word error rate, with confidence intervals over utterances.

Intervals are percentile bootstraps over utterances (M. Bisani and H. Ney, "Bootstrap estimates for
confidence intervals in ASR performance evaluation", ICASSP 2004).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

_DRAWS_AT_ONCE = 1_000_000  # bounds the memory of resampling to some tens of MB


@dataclass(frozen=True)
class ErrorCounts:
    """Word errors of one or more utterances; `a + b` and `sum_counts` join them."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0  # in the references

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Errors for each reference word: 0.05 is 5 %; may exceed 1.

        Without reference words it is 0 where there are no errors either, else infinite.
        """
        if self.words:
            return self.errors / self.words
        return float("inf") if self.errors else 0.0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """How much worse (above 0) or better (below 0) system A is than system B."""

    difference: float  # WER of A minus WER of B
    low: float
    high: float
    share_a_better: float  # share of the resamples in which A has the lower WER; ties count half


def sum_counts(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The total of the counts of utterances."""
    return sum(counts, ErrorCounts())


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[ErrorCounts]:
    """Word errors of each utterance, by minimum edit distance.

    Words are what spaces separate; nothing is normalized. `sum_counts(...)` gives the total. A
    reference without words counts every word of its hypothesis as an insertion.

    Raises:
      ValueError: the lists differ in length.
    """
    if len(references) != len(hypotheses):
        raise ValueError(
            f"expected a hypothesis for each reference, got {len(references)} references and"
            f" {len(hypotheses)} hypotheses"
        )
    return [_count(r, h) for r, h in zip(references, hypotheses, strict=True)]


def bootstrap_interval(
    counts: Sequence[ErrorCounts],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """WER of a test set with its confidence interval.

    Args:
      counts: one for each utterance.
      confidence: probability mass of the interval.
      resamples: number of test sets drawn, with replacement, from the utterances.
      seed: seed of the draws.

    Raises:
      ValueError: there are no reference words, or an argument makes no sense.
    """
    errors, words = _arrays(counts, confidence, resamples)
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
    """Difference in WER of two systems on the same utterances, with its confidence interval.

    Both systems are scored on the same resampled utterances, so what makes an utterance hard for
    both cancels.

    Args:
      counts_a: one for each utterance, of system A.
      counts_b: the same utterances in the same order, of system B.
      confidence: probability mass of the interval.
      resamples: number of test sets drawn, with replacement, from the utterances.
      seed: seed of the draws.

    Raises:
      ValueError: the systems were not scored on the same references, there are no reference
        words, or an argument makes no sense.
    """
    errors_a, words_a = _arrays(counts_a, confidence, resamples)
    errors_b, words_b = _arrays(counts_b, confidence, resamples)
    if len(words_a) != len(words_b) or (words_a != words_b).any():
        raise ValueError(
            "expected counts of the same utterances in the same order, got"
            f" {len(words_a)} utterances with {int(words_a.sum())} words and"
            f" {len(words_b)} with {int(words_b.sum())}"
        )
    rates_a, rates_b = _resampled_rates([errors_a, errors_b], words_a, resamples, seed)
    differences = rates_a - rates_b
    low, high = np.quantile(differences, _tails(confidence))
    return PairedDifference(
        difference=sum_counts(counts_a).wer - sum_counts(counts_b).wer,
        low=float(low),
        high=float(high),
        share_a_better=float(np.mean(differences < 0) + 0.5 * np.mean(differences == 0)),
    )


def _count(reference: str, hypothesis: str) -> ErrorCounts:
    words = len(reference.split())
    if not words:
        return ErrorCounts(insertions=len(hypothesis.split()))
    measured = jiwer.process_words(" ".join(reference.split()), " ".join(hypothesis.split()))
    return ErrorCounts(measured.substitutions, measured.deletions, measured.insertions, words)


def _arrays(
    counts: Sequence[ErrorCounts], confidence: float, resamples: int
) -> tuple[np.ndarray, np.ndarray]:
    if not 0.0 < confidence < 1.0 or resamples < 1:
        raise ValueError(
            f"expected confidence in (0, 1) and resamples >= 1, got {confidence} and {resamples}"
        )
    errors = np.array([c.errors for c in counts], np.float64)
    words = np.array([c.words for c in counts], np.float64)
    if not words.sum():
        raise ValueError(f"expected reference words, got {len(counts)} utterances without any")
    return errors, words


def _resampled_rates(
    errors: Sequence[np.ndarray], words: np.ndarray, resamples: int, seed: int
) -> list[np.ndarray]:
    """WER `[resamples]` of each system on the same resampled test sets."""
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
