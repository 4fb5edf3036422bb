"""Interpolated modified Kneser-Ney estimation of n-gram models.

S. Chen, J. Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", 1998;
the equations as in K. Heafield et al., "Scalable Modified Kneser-Ney Language Model Estimation",
2013, section 3:

    a(w1 … wn)         count, if n is the order or w1 = <s>; else how many words precede it
    u(wn | w1 … wn-1) = (a(w1 … wn) - D_n(a(w1 … wn))) / sum over x of a(w1 … wn-1 x)
    b(w1 … wn-1)      = sum over x of D_n(a(w1 … wn-1 x)) / the same sum
    p(wn | w1 … wn-1) = u(wn | w1 … wn-1) + b(w1 … wn-1) p(wn | w2 … wn-1)

Below the unigrams is the uniform distribution over all words but ``<s>``.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from asr_qat.runtime.search.arpa import LOG_10, NEVER
from asr_qat.runtime.search.backoff import BEGIN, END, UNKNOWN, BackoffModel, Table

# Discounts where counts of counts allow none, such as of unigrams that are all frequent; those of
# lmplz's --discount_fallback.
FALLBACK = (0.5, 1.0, 1.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EstimationConfig:
    """How an n-gram model is estimated.

    Raises:
        ValueError: for an order below 1, or thresholds that are too many or fall.
    """

    order: int = 4  # words of the longest n-grams
    # For lengths 1, 2, …: n-grams counted at most so often are left out; the last number holds for
    # all longer ones.
    prune: tuple[int, ...] = (0,)

    def __post_init__(self):
        if self.order < 1:
            raise ValueError(f"order: received {self.order}, expected at least 1")
        rising = list(self.prune) == sorted(self.prune)
        if not self.prune or len(self.prune) > self.order or self.prune[0] != 0 or not rising:
            raise ValueError(
                f"prune: received {' '.join(map(str, self.prune))!r}, expected 0 for unigrams and "
                f"then numbers that do not fall, at most {self.order}"
            )

    def threshold(self, length: int) -> int:
        """Counts up to this one are left out."""
        return self.prune[min(length, len(self.prune)) - 1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grams:
    """All n-grams of one length in a text, sorted by their keys (see `Table`)."""

    keys: np.ndarray
    parents: np.ndarray  # index of the n-gram without its last word
    suffixes: np.ndarray  # index of the n-gram without its first word
    begins: np.ndarray  # whether the first word is <s>
    counts: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discounts:
    """What is taken from counts of 1, of 2, and of 3 and more."""

    values: tuple[float, float, float]
    estimated: bool  # False: `FALLBACK`


def count_grams(
    sentences: Sequence[Sequence[int]], words: int, order: int, begin: int, end: int
) -> list[Grams]:
    """The n-grams of each length.

    Args:
        sentences: ids of words.
        words: how many there are.
        order: words of the longest n-grams.
        begin: id of ``<s>``.
        end: id of ``</s>``.
    """
    lengths = np.array([len(sentence) + 2 for sentence in sentences])
    text = np.fromiter(
        (word for sentence in sentences for word in (begin, *sentence, end)), np.int64
    )
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(text))  # to the sentence's end
    at = text  # index of the n-gram at each position of the text
    every = np.arange(words)
    grams = [
        Grams(
            keys=every,
            parents=np.zeros(words, np.int64),
            suffixes=np.zeros(words, np.int64),
            begins=every == begin,
            counts=np.bincount(text, minlength=words),
        )
    ]
    for length in range(2, order + 1):
        starts = np.flatnonzero(left >= length)
        keys, first, inverse, counts = np.unique(
            at[starts] * words + text[starts + length - 1],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        first = starts[first]
        grams.append(
            Grams(
                keys=keys,
                parents=at[first],
                suffixes=at[first + 1],
                begins=text[first] == begin,
                counts=counts,
            )
        )
        at = np.full(len(text), -1)
        at[starts] = inverse.reshape(-1)
    return grams


def adjusted_counts(grams: Grams, longer: Grams | None) -> np.ndarray:
    """a: counts of the longest n-grams, and of those that start a sentence; else words before."""
    if longer is None:
        return grams.counts
    preceding = np.bincount(longer.suffixes, minlength=len(grams.keys))
    return np.where(grams.begins, grams.counts, preceding)


def discounts_of(adjusted: np.ndarray) -> Discounts:
    """D(k) = k - (k + 1) t1 / (t1 + 2 t2) t(k+1) / tk, where tk n-grams have the count k."""
    t = [int(np.count_nonzero(adjusted == k)) for k in range(5)]
    if not t[1] or not t[2] or not t[3]:
        return Discounts(values=FALLBACK, estimated=False)
    share = t[1] / (t[1] + 2 * t[2])
    first, second, third = (k - (k + 1) * share * t[k + 1] / t[k] for k in (1, 2, 3))
    if not (0 < first <= 1 and 0 < second <= 2 and 0 < third <= 3):
        return Discounts(values=FALLBACK, estimated=False)
    return Discounts(values=(first, second, third), estimated=True)


def estimate(
    sentences: Sequence[Sequence[int]], vocabulary: Sequence[str], config: EstimationConfig
) -> tuple[BackoffModel, list[Discounts]]:
    """Estimates a model.

    Args:
        sentences: ids of words, without ``<s>`` and ``</s>``.
        vocabulary: all words; ``<unk>``, ``<s>`` and ``</s>`` are added where they are absent.
        config: order and pruning.

    Returns:
        The model, and the discounts of each length.

    Raises:
        ValueError: there is no sentence.
    """
    if not len(sentences):
        raise ValueError("expected sentences to estimate a language model from, received none")
    words = [*vocabulary, *(w for w in (UNKNOWN[0], BEGIN, END) if w not in vocabulary)]
    begin, end = words.index(BEGIN), words.index(END)
    all_grams = count_grams(sentences, len(words), config.order, begin, end)
    lower = np.full(1, 1.0 / (len(words) - 1))  # probability of n-grams one word shorter
    probabilities, backoffs, kept_of, found = [], [], [], []
    for length, grams in enumerate(all_grams, 1):
        longer = all_grams[length] if length < config.order else None
        adjusted = adjusted_counts(grams, longer)
        if length == 1:
            adjusted[begin] = 0  # it follows nothing
        kept = grams.counts > config.threshold(length) if length > 1 else np.ones(len(words), bool)
        discounts = discounts_of(adjusted)
        p, b = _interpolated(grams, adjusted, kept, discounts, lower)
        if length == 1:
            p[begin] = 0.0
        else:
            backoffs.append(b)
        probabilities.append(p)
        kept_of.append(kept)
        found.append(discounts)
        lower = p
    backoffs.append(np.ones(len(lower)))
    tables = _tables(all_grams, probabilities, backoffs, kept_of)
    return BackoffModel(words, tables), found


def _interpolated(
    grams: Grams, adjusted: np.ndarray, kept: np.ndarray, discounts: Discounts, lower: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """p of n-grams, and b of those one word shorter.

    What n-grams that are left out would have had goes to b, too.
    """
    size = len(lower)
    taken = np.array([0.0, *discounts.values])[np.minimum(adjusted, 3)]
    taken = np.where(kept, taken, adjusted)
    total = np.bincount(grams.parents, adjusted, size)
    seen = total > 0
    b = np.divide(np.bincount(grams.parents, taken, size), total, out=np.ones(size), where=seen)
    u = (adjusted - taken) / total[grams.parents]
    return u + b[grams.parents] * lower[grams.suffixes], b


def _tables(all_grams, probabilities, backoffs, kept_of) -> list[Table]:
    """The n-grams that are kept, in nats."""
    tables: list[Table] = []
    words = len(all_grams[0].keys)
    places = np.zeros(1, np.int64)  # of n-grams one word shorter, among those that are kept
    for grams, p, b, kept in zip(all_grams, probabilities, backoffs, kept_of, strict=True):
        keys = grams.keys % words
        if tables:
            keys = places[grams.parents] * words + keys
        with np.errstate(divide="ignore"):
            log_probs = np.maximum(np.log(p[kept]), NEVER * LOG_10)
        tables.append(Table(keys=keys[kept], log_probs=log_probs, backoffs=np.log(b[kept])))
        places = np.cumsum(kept) - 1
    return tables
