from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_qat.metrics.wer import (
    ErrorCounts,
    count_character_errors,
    count_errors,
    group_counts,
    sum_counts,
)

words = st.lists(st.sampled_from("abc"), max_size=7)


def _best_splits(reference, hypothesis):
    """Every (substitutions, deletions, insertions) of the fewest edits, by trying all of them."""

    @cache
    def splits(i, j):
        if i == 0 and j == 0:
            return {(0, 0, 0)}
        ways = set()
        if i and j:
            wrong = reference[i - 1] != hypothesis[j - 1]
            ways |= {(s + wrong, d, n) for s, d, n in splits(i - 1, j - 1)}
        if i:
            ways |= {(s, d + 1, n) for s, d, n in splits(i - 1, j)}
        if j:
            ways |= {(s, d, n + 1) for s, d, n in splits(i, j - 1)}
        fewest = min(map(sum, ways))
        return {way for way in ways if sum(way) == fewest}

    return splits(len(reference), len(hypothesis))


def _split(counts):
    return counts.substitutions, counts.deletions, counts.insertions


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


def test_character_counts():
    counts = count_character_errors(
        ["it is", "it is", "  a   b ", "", "día", "x"], ["it iz", "itis", "a b", "no", "dia", ""]
    )
    assert counts == [
        ErrorCounts(1, 0, 0, 5),
        ErrorCounts(0, 1, 0, 5),  # the space
        ErrorCounts(0, 0, 0, 3),
        ErrorCounts(0, 0, 2, 0),
        ErrorCounts(1, 0, 0, 3),
        ErrorCounts(0, 1, 0, 1),
    ]


@settings(max_examples=60, deadline=None)
@given(words, words)
def test_counts_are_those_of_a_best_alignment(reference, hypothesis):
    best = _best_splits(tuple(reference), tuple(hypothesis))
    (counts,) = count_errors([" ".join(reference)], [" ".join(hypothesis)])
    assert _split(counts) in best and counts.words == len(reference)
    (counts,) = count_character_errors(["".join(reference)], ["".join(hypothesis)])
    assert _split(counts) in best and counts.words == len(reference)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(words, words, st.sampled_from("xy")), max_size=6), st.randoms())
def test_totals_do_not_depend_on_order_or_grouping(rows, random):
    def counted(rows):
        texts = [(" ".join(reference), " ".join(said)) for reference, said, _ in rows]
        return count_errors([r for r, _ in texts], [h for _, h in texts])

    shuffled = random.sample(rows, len(rows))
    total = sum_counts(counted(rows))
    assert sum_counts(counted(shuffled)) == total
    groups = group_counts(counted(rows), [key for *_, key in rows])
    assert groups == group_counts(counted(shuffled), [key for *_, key in shuffled])
    assert sum_counts(groups.values()) == total


def test_unequal_lists():
    for count in (count_errors, count_character_errors):
        with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
            count(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="each of 1 counts, got 2 keys"):
        group_counts([ErrorCounts()], ["s", "t"])
