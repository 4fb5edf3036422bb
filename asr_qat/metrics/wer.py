"""Word and character error rates, by minimum edit distance."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import jiwer
import numpy as np

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class ErrorCounts:
    """Word errors of one or more utterances; `a + b` and `sum_counts` join them.

    Where characters are counted (`count_character_errors`), each of them is a word.
    """

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


def sum_counts(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The total of the counts of utterances."""
    return sum(counts, ErrorCounts())


def group_counts(counts: Sequence[ErrorCounts], keys: Sequence[Key]) -> dict[Key, ErrorCounts]:
    """The totals of groups of utterances, in the order in which their keys first occur.

    Raises:
      ValueError: the lists differ in length.
    """
    if len(counts) != len(keys):
        raise ValueError(f"expected a key for each of {len(counts)} counts, got {len(keys)} keys")
    groups: dict[Key, ErrorCounts] = {}
    for key, count in zip(keys, counts, strict=True):
        groups[key] = groups.get(key, ErrorCounts()) + count
    return groups


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[ErrorCounts]:
    """Word errors of each utterance, by minimum edit distance.

    Words are what spaces separate; nothing is normalized. Every edit costs 1. Their total is
    unique; where alignments tie, how it splits into substitutions, deletions and insertions is
    that of one of them. `sum_counts(...)` gives the total. A reference without words counts every
    word of its hypothesis as an insertion.

    Raises:
      ValueError: the lists differ in length.
    """
    return _count(references, hypotheses, str.split, jiwer.process_words)


def count_character_errors(
    references: Sequence[str], hypotheses: Sequence[str]
) -> list[ErrorCounts]:
    """Character errors of each utterance: as `count_errors`, each character taken for a word.

    Characters are Unicode code points. The space between words is one; further spaces are not
    counted.

    Raises:
      ValueError: the lists differ in length.
    """
    return _count(references, hypotheses, _characters, jiwer.process_characters)


def paired_arrays(
    counts_a: Sequence[ErrorCounts], counts_b: Sequence[ErrorCounts]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of two systems and the reference words, float64 `[utterances]` each.

    Raises:
      ValueError: the systems were not scored on the same references, or there are no words.
    """
    errors_a, words_a = error_arrays(counts_a)
    errors_b, words_b = error_arrays(counts_b)
    if len(words_a) != len(words_b) or (words_a != words_b).any():
        raise ValueError(
            "expected counts of the same utterances in the same order, got"
            f" {len(words_a)} utterances with {int(words_a.sum())} words and"
            f" {len(words_b)} with {int(words_b.sum())}"
        )
    return errors_a, errors_b, words_a


def error_arrays(counts: Sequence[ErrorCounts]) -> tuple[np.ndarray, np.ndarray]:
    """Errors and reference words, float64 `[utterances]` each.

    Raises:
      ValueError: there are no reference words.
    """
    errors = np.array([c.errors for c in counts], np.float64)
    words = np.array([c.words for c in counts], np.float64)
    if not words.sum():
        raise ValueError(f"expected reference words, got {len(counts)} utterances without any")
    return errors, words


def _characters(text: str) -> list[str]:
    return list(" ".join(text.split()))


def _count(references, hypotheses, units: Callable[[str], list[str]], align) -> list[ErrorCounts]:
    if len(references) != len(hypotheses):
        raise ValueError(
            f"expected a hypothesis for each reference, got {len(references)} references and"
            f" {len(hypotheses)} hypotheses"
        )
    return [_count_one(r, h, units, align) for r, h in zip(references, hypotheses, strict=True)]


def _count_one(reference: str, hypothesis: str, units, align) -> ErrorCounts:
    length = len(units(reference))
    if not length:
        return ErrorCounts(insertions=len(units(hypothesis)))
    measured = align(" ".join(reference.split()), " ".join(hypothesis.split()))
    return ErrorCounts(measured.substitutions, measured.deletions, measured.insertions, length)
