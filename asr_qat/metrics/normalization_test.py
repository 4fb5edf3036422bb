import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_qat.metrics.normalization import Normalization, parse_normalization

ALL = ["apostrophes", "lower", "punctuation", "unicode"]


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        ("none", "  It’s  2 O'Clock. ", "  It’s  2 O'Clock. "),
        ("lower", "It’s  2 O'Clock.", "it’s 2 o'clock."),
        ("apostrophes", "It’s 2 O'Clock.", "Its 2 OClock."),
        ("punctuation", "‘Well-known’, isn’t it?", "Well known isn't it"),
        ("punctuation", "the dogs' 'n' rock'n'roll...wait", "the dogs n rock'n'roll wait"),
        ("punctuation", "1,000 at 10:30, 3.5. No2: -5", "1,000 at 10:30 3.5 No2 5"),
        ("punctuation", "¿Qué? «ja» — 你好。", "Qué ja 你好"),
        ("unicode", "Cafe\u0301", "Café"),
        ("lower,punctuation", "HELLO, World", "hello world"),
        ("apostrophes,punctuation", "don't, 'quote'", "dont quote"),
        ("punctuation", "...", ""),
        ("lower", "", ""),
    ],
)
def test_steps(steps, text, expected):
    assert parse_normalization(steps)(text) == expected


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12), st.sets(st.sampled_from(ALL)))
def test_normalized_texts_stay_as_they_are(text, steps):
    normalization = Normalization(**dict.fromkeys(steps, True))
    once = normalization(text)
    assert normalization(once) == once
    assert normalization.changed([once]) == 0
    if not steps:
        assert once == text


def test_changed_counts_texts_whose_words_change():
    texts = ["a  b", "A b", "a, b", "it's"]
    assert [parse_normalization(s).changed(texts) for s in ("", "lower", "lower,punctuation")] == [
        0,
        1,
        2,
    ]


def test_names():
    assert Normalization().steps == () == parse_normalization("none").steps
    assert parse_normalization("punctuation, lower").steps == ("lower", "punctuation")
    assert parse_normalization(",".join(ALL)).steps == tuple(ALL)
    with pytest.raises(ValueError, match="apostrophes,lower,punctuation,unicode, got 'numbers'"):
        parse_normalization("lower,numbers")
