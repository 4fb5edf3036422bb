"""Tests of boosts for phrases: any labels get exactly the boosts of the phrases they complete."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_qat.runtime.search.phrases import PhraseBias, PhraseError, load_phrases, read_phrases

PIECES = ["<blank>", "▁a", "▁b", "▁", "a", "b", "ab", "ba▁a", "▁ab"]
phrases = st.dictionaries(
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3).map(" ".join),
    st.sampled_from([0.5, 1.0, 2.5, -1.0]),
    min_size=1,
    max_size=5,
)


def totals(scorer, path):
    """What a path has got after each label and, last, at the end."""
    state, found = scorer.start(), [0.0]
    for label in path:
        scores = scorer.scores(state)
        assert scores.dtype == np.float32 and scores[0] == 0.0
        found.append(found[-1] + float(scores[label]))
        state = scorer.advance(state, label)
    return [*found, found[-1] + scorer.final(state)]


def boosts(listed, text):
    """Of all phrases in a text, overlapping ones and phrases in phrases too."""
    return sum(
        boost * len(phrase.replace(" ", "")) * len(re.findall(f"(?= {phrase} )", f" {text} "))
        for phrase, boost in listed.items()
    )


def said(path, pieces=PIECES):
    return "".join(pieces[label] for label in path).replace("▁", " ")


@settings(deadline=None, max_examples=50)
@given(phrases, st.lists(st.integers(1, len(PIECES) - 1), max_size=15))
def test_the_total_is_that_of_the_completed_phrases(listed, path):
    found = totals(PhraseBias(listed, PIECES), path)[-1]
    assert found == pytest.approx(boosts(listed, said(path)), abs=1e-4)


@settings(deadline=None, max_examples=50)
@given(phrases, st.lists(st.integers(1, 2), max_size=15))
def test_without_word_boundaries_phrases_are_found_anywhere(listed, path):
    pieces = ["<blank>", "a", "b"]
    expected = sum(
        boost * len(joined) * len(re.findall(f"(?={joined})", said(path, pieces)))
        for phrase, boost in listed.items()
        for joined in [phrase.replace(" ", "")]
    )
    found = totals(PhraseBias(listed, pieces), path)[-1]
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_match_is_boosted_as_it_grows_and_pays_back_when_it_fails():
    scorer = PhraseBias({"ab ba": 1.0}, PIECES)
    assert totals(scorer, [1, 5, 2, 4]) == [0, 1, 2, 3, 4, 4]  # ▁a b ▁b a
    assert totals(scorer, [8, 3, 5, 4, 3]) == [0, 2, 2, 3, 4, 4, 4]  # ▁ab ▁ b a ▁
    assert totals(scorer, [1, 5, 2, 5]) == [0, 1, 2, 3, 0, 0]  # ▁a b ▁b b
    assert totals(scorer, [1, 5, 2]) == [0, 1, 2, 3, 0]  # ends too early
    assert totals(scorer, [1, 5, 2, 4, 4]) == [0, 1, 2, 3, 4, 0, 0]  # "ab baa" is another word


def test_a_failed_match_keeps_what_also_begins_another():
    scorer = PhraseBias({"a b ab": 1.0, "b b": 1.0}, PIECES)
    found = totals(scorer, [1, 2, 2])  # ▁a ▁b ▁b
    assert found == [0, 1, 2, 2, 2]


def test_negative_boosts_count_when_the_phrase_is_complete():
    assert totals(PhraseBias({"ab": -2.0}, PIECES), [1, 5, 2]) == [0, 0, 0, -4, -4]


def test_lists(tmp_path):
    path = tmp_path / "phrases.txt"
    path.write_text("\ufeffab  ba\n\nbb\t-2\nab ba\t3\n", encoding="utf-8")
    assert read_phrases(path, 0.5) == {"ab ba": 3.0, "bb": -2.0}
    assert totals(load_phrases(path, PIECES, 0.5), [2, 5])[-1] == -4.0
    path.write_text("ab\nba\tmuch\n")
    with pytest.raises(PhraseError, match=r"phrases.txt: line 2: expected a phrase, .*'ba\\tmuch'"):
        load_phrases(path, PIECES, 0.5)
    path.write_text("ab\nCab\n")
    with pytest.raises(PhraseError, match="phrases.txt: phrase 'Cab': no piece .* has 'C'; .*'ab'"):
        load_phrases(path, PIECES, 0.5)
    path.write_text("\n")
    with pytest.raises(PhraseError, match="phrases.txt: expected a phrase a line, received none"):
        load_phrases(path, PIECES, 0.5)
    path.write_bytes(b"\xff")
    with pytest.raises(PhraseError, match="phrases.txt: is not UTF-8"):
        load_phrases(path, PIECES, 0.5)
    with pytest.raises(PhraseError, match="phrase 'ab' with boost nan"):
        PhraseBias({"ab": float("nan")}, PIECES)
