"""The matched-pairs test: do two systems differ by more than chance?

L. Gillick and S. J. Cox, "Some statistical issues in the comparison of speech recognition
algorithms", ICASSP 1989. NIST's sclite calls it MAPSSWE and cuts utterances further, at words that
both systems have right; here a segment is a whole utterance (or all of a speaker's), so the errors
of two segments have even less to do with each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .wer import ErrorCounts, paired_arrays


@dataclass(frozen=True, kw_only=True)
class MatchedPairs:
    """Result of the test of system A against system B."""

    difference: float  # error rate of A minus error rate of B
    standard_error: float  # of the difference
    p_value: float  # two-sided: of as large a difference, were the systems equally good
    segments: int
    differing: int  # segments in which one system has more errors than the other


def matched_pairs(counts_a: Sequence[ErrorCounts], counts_b: Sequence[ErrorCounts]) -> MatchedPairs:
    """Tests whether two systems have the same error rate, on the same utterances.

    With Z the errors of A minus those of B in each of n segments, W = mean(Z) / (sd(Z) / √n) is
    standard normal if the systems are equally good and n is large (Gillick and Cox). Where few
    segments differ, p is too small: five by one error each, all to the same side, give 0.025, an
    exact sign test 0.0625.

    Args:
      counts_a: one for each utterance, or for each speaker, of system A.
      counts_b: the same in the same order, of system B.

    Raises:
      ValueError: the systems were not scored on the same references, there are no reference
        words, or fewer than two segments.
    """
    errors_a, errors_b, words = paired_arrays(counts_a, counts_b)
    z = errors_a - errors_b
    if len(z) < 2:
        raise ValueError(f"expected at least two segments to test, got {len(z)}")
    spread = float(z.std(ddof=1)) * math.sqrt(len(z))  # standard deviation of the sum
    if spread:
        p_value = math.erfc(abs(float(z.sum())) / spread / math.sqrt(2))
    else:  # the same difference in every segment: none at all, or one that never varies
        p_value = 0.0 if z.any() else 1.0
    return MatchedPairs(
        difference=float(z.sum() / words.sum()),
        standard_error=spread / float(words.sum()),
        p_value=p_value,
        segments=len(z),
        differing=int(np.count_nonzero(z)),
    )
