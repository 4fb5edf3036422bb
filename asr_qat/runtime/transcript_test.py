"""Text of labels, and what of a text is taken back."""

import pytest

from asr_qat.runtime.transcript import text_of, words_taken_back


@pytest.mark.parametrize(
    ("shown", "now", "count"),
    [
        ("", "", 0),
        ("", "a b", 0),
        ("a b", "a b c", 0),
        ("recog", "recognise", 0),
        ("we recog", "we recognise speech", 0),
        ("we recog", "we wreck", 1),
        ("wreck a nice", "recognise", 3),
        ("a recog now", "a recognise now", 2),  # a word that grows is a revision before the last
        ("a b c", "a x c", 2),
        ("a b", "a", 1),
        ("a", "", 1),
    ],
)
def test_words_from_the_first_change_on_are_taken_back(shown, now, count):
    assert words_taken_back(shown, now) == count


def test_text_of_pieces():
    assert text_of([1, 2, 1, 3], ["<blank>", "▁", "▁a", "b"]) == "a b"
