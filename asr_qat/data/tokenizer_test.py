import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_qat.data.tokenizer import (
    CharacterTokenizer,
    LabelError,
    SentencePieceTokenizer,
    tokenizer_from_config,
    train_sentencepiece,
)

TEXTS = ["the cat sat on the mat", "a cat and a bat", "that rat sat", "the bat and the rat"] * 5


@pytest.fixture(scope="module")
def word_pieces():
    return train_sentencepiece(TEXTS, 20)


def test_characters():
    tokenizer = CharacterTokenizer.from_texts(["one two", "zero"])
    assert tokenizer.pieces == ["<blank>", "▁", *"enortwz"]
    assert tokenizer.vocabulary_size == 9
    assert tokenizer.encode("two") == [6, 7, 4]
    assert tokenizer.decode([0, 6, 0, 7, 4, 1]) == "two"
    assert tokenizer.encode("") == []


@given(st.text("abc d", max_size=20))
def test_characters_round_trip(text):
    tokenizer = CharacterTokenizer(" abcd")
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text.strip()
    assert all(0 < i < tokenizer.vocabulary_size for i in ids)


def test_word_pieces(word_pieces):
    assert word_pieces.vocabulary_size == len(word_pieces.pieces) == 20
    assert word_pieces.pieces[0] == "<blank>"
    for text in TEXTS:
        ids = word_pieces.encode(text)
        assert min(ids) > 0
        assert word_pieces.decode([0, *ids, 0]) == text
        joined = "".join(word_pieces.pieces[i] for i in ids)
        assert joined.replace("▁", " ").strip() == text


def test_configs_survive_json(word_pieces):
    for tokenizer in (word_pieces, CharacterTokenizer(" abc")):
        again = tokenizer_from_config(json.loads(json.dumps(tokenizer.get_config())))
        assert type(again) is type(tokenizer)
        assert again.pieces == tokenizer.pieces
        assert again.encode("a a") == tokenizer.encode("a a")


def test_characters_outside_the_vocabulary(word_pieces):
    for tokenizer in (word_pieces, CharacterTokenizer.from_texts(TEXTS)):
        with pytest.raises(LabelError, match="'z' of the text 'the zat'"):
            tokenizer.encode("the zat")
    with pytest.raises(LabelError, match="' ' of the text 'a b'"):
        CharacterTokenizer("ab").encode("a b")


@pytest.mark.parametrize("characters", ["", "aba", "a▁"])
def test_bad_vocabularies(characters):
    with pytest.raises(ValueError, match="vocabulary"):
        CharacterTokenizer(characters)


def test_bad_word_pieces():
    with pytest.raises(ValueError, match="SentencePiece model"):
        SentencePieceTokenizer(b"no model")
    with pytest.raises(ValueError, match="SentencePiece model"):
        SentencePieceTokenizer(b"")
    with pytest.raises(ValueError, match="got none"):
        train_sentencepiece(["", " "], 10)
    for size in (2, 100_000):
        with pytest.raises(ValueError, match=f"vocabulary of {size} labels"):
            train_sentencepiece(TEXTS, size)


@pytest.mark.parametrize(
    "config",
    [{}, {"kind": "bytes"}, {"kind": "characters"}, {"kind": "sentencepiece", "model_proto": "?"}],
)
def test_bad_configs(config):
    with pytest.raises(ValueError, match="tokenizer"):
        tokenizer_from_config(config)
