"""Words of tokens."""

from hypothesis import given
from hypothesis import strategies as st

from asr_qat.runtime.search.hypothesis import Token
from asr_qat.runtime.search.words import Word, words_of

PIECES = ["<blank>", "▁", "▁a", "b", "▁c▁d", "e▁"]


def test_a_word_lasts_from_its_first_piece_to_its_last():
    tokens = [Token(2, 1), Token(3, 4), Token(1, 6), Token(3, 8)]
    assert words_of(tokens, PIECES, 0.5) == [Word("ab", 0.5, 2.5), Word("b", 4.0, 4.5)]
    assert words_of([Token(4, 0), Token(5, 2), Token(3, 3)], PIECES, 1.0) == [
        Word("c", 0.0, 1.0),
        Word("de", 0.0, 3.0),
        Word("b", 3.0, 4.0),
    ]


@given(st.lists(st.integers(1, len(PIECES) - 1)))
def test_words_are_those_of_the_text(labels):
    words = words_of([Token(label, i) for i, label in enumerate(labels)], PIECES, 1.0)
    text = "".join(PIECES[label] for label in labels).replace("▁", " ")
    assert [word.text for word in words] == text.split()
    times = [word.start for word in words]
    assert times == sorted(times) and all(word.end > word.start for word in words)
