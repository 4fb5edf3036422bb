"""Tests of n-gram models as scorers of labels."""

import importlib.util
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_qat.language_models.arpa_writer import write_arpa
from asr_qat.language_models.kneser_ney import EstimationConfig, estimate
from asr_qat.runtime.search.kenlm_file import MAGIC, KenlmModel
from asr_qat.runtime.search.load import load_language_model
from asr_qat.runtime.search.ngram import PieceNgram, WordNgram, level_of, load_ngram

PIECES = ["<blank>", "<unk>", "▁a", "▁", "b", "▁b", "a", "ab"]
CHARACTERS = ["<blank>", "a", "b", "▁"]


def model_of(lines, order=3):
    split = [line.split() for line in lines]
    words = sorted({word for line in split for word in line})
    ids = {word: i for i, word in enumerate(words)}
    sentences = [[ids[word] for word in line] for line in split]
    return estimate(sentences, words, EstimationConfig(order=order))[0]


WORDS = model_of(["a ab b", "ab ab", "b a", "ba ab b"])
OF_PIECES = model_of(["▁a b ▁ b", "▁b a ▁a", "▁a ab ▁b"])
labels = st.lists(st.integers(1, len(PIECES) - 1), max_size=12)


def total(scorer, path):
    """What a path gets, and the final state's share of it."""
    state, found = scorer.start(), 0.0
    for label in path:
        scores = scorer.scores(state)
        assert scores.dtype == np.float32 and scores[0] == 0.0
        found += float(scores[label])
        state = scorer.advance(state, label)
    return found + scorer.final(state)


def of_words(model, words):
    """Score of a sentence, word by word."""
    context, found = model.start(), 0.0
    for word in words:
        score, context = model.step(context, word)
        found += score
    return found + model.end(context)


@settings(deadline=None, max_examples=50)
@given(labels)
def test_a_model_of_pieces_scores_every_label(path):
    expected = of_words(OF_PIECES, [PIECES[label] for label in path])
    assert total(PieceNgram(OF_PIECES, PIECES), path) == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, max_examples=50)
@given(labels, st.sampled_from([0.0, -3.0]))
def test_a_model_of_words_scores_the_words_however_they_are_spelled(path, penalty):
    words = "".join(PIECES[label] for label in path).replace("▁", " ").split()
    expected = of_words(WORDS, words) + penalty * sum(word not in WORDS for word in words)
    found = total(WordNgram(WORDS, PIECES, penalty), path)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_words_of_characters_end_at_spaces():
    scorer = WordNgram(WORDS, CHARACTERS)
    path = [CHARACTERS.index(c) for c in "ab▁b"]
    assert total(scorer, path) == pytest.approx(of_words(WORDS, ["ab", "b"]), rel=1e-5)
    state = scorer.advance(scorer.advance(scorer.start(), 1), 2)
    scores = scorer.scores(state)
    assert scores[:3].tolist() == [0, 0, 0] and scores[3] < 0


def test_boundaries_inside_and_behind_pieces():
    pieces = ["<blank>", "a▁b", "ab▁", "b"]
    expected = of_words(WORDS, ["a", "bab", "b"])
    assert total(WordNgram(WORDS, pieces), [1, 2, 3]) == pytest.approx(expected, rel=1e-5)


def test_unknown_pieces_get_the_penalty():
    pieces = [*PIECES, "q"]
    plain, punished = (PieceNgram(OF_PIECES, pieces, penalty) for penalty in (0.0, -2.0))
    difference = punished.scores(punished.start()) - plain.scores(plain.start())
    np.testing.assert_allclose(difference[[2, 8]], [0, -2], atol=1e-6)


def test_scores_of_a_state_are_computed_once():
    scorer = PieceNgram(OF_PIECES, PIECES)
    state = scorer.advance(scorer.start(), 2)
    assert scorer.scores(state) is scorer.scores(scorer.advance(scorer.start(), 2))
    with pytest.raises(ValueError, match="read-only"):
        scorer.scores(state)[1] = 0


def test_what_the_words_of_a_file_are(tmp_path):
    for name, model in (("words.arpa", WORDS), ("pieces.arpa.gz", OF_PIECES)):
        write_arpa(model, tmp_path / name)
    words, pieces = tmp_path / "words.arpa", tmp_path / "pieces.arpa.gz"
    assert isinstance(load_language_model(words, PIECES), WordNgram)
    assert isinstance(load_language_model(pieces, PIECES), PieceNgram)
    assert isinstance(load_ngram(words, PIECES, "pieces"), PieceNgram)
    assert isinstance(load_ngram(pieces, PIECES, "words"), WordNgram)
    with pytest.raises(ValueError, match="pieces.arpa.gz: has word pieces of another vocabulary"):
        load_ngram(pieces, CHARACTERS)
    with pytest.raises(ValueError, match="level 'word': expected one of auto, pieces, words"):
        load_ngram(words, PIECES, "word")


def test_words_that_no_pieces_can_spell():
    with pytest.raises(ValueError, match="lm: the recogniser cannot write its words, such as 'A'"):
        level_of("lm", model_of(["A AB"]), PIECES)
    with pytest.raises(ValueError, match="cannot write its words"):
        level_of("lm", WORDS, ["<blank>", "a", "b"])  # no piece marks a word
    assert level_of("lm", model_of(["a b"]), ["<blank>", "a", "b"]) == "pieces"


def test_kenlm_files_without_kenlm(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    path = tmp_path / "lm.bin"
    path.write_bytes(MAGIC + bytes(100))
    with pytest.raises(ValueError, match="lm.bin: is a KenLM binary file.*the ARPA file"):
        load_language_model(path, PIECES)


@pytest.mark.skipif(importlib.util.find_spec("kenlm") is None, reason="kenlm is not installed")
def test_kenlm_computes_the_same(tmp_path):
    write_arpa(WORDS, tmp_path / "lm.arpa")
    theirs, ours = KenlmModel(tmp_path / "lm.arpa"), load_ngram(tmp_path / "lm.arpa", PIECES)
    for path in ([2, 4, 3, 4], [5, 6, 2, 7, 3], []):
        assert total(WordNgram(theirs, PIECES), path) == pytest.approx(total(ours, path), rel=1e-5)
    (tmp_path / "lm.bin").write_bytes(MAGIC + bytes(100))
    with pytest.raises(ValueError, match="lm.bin: KenLM cannot read it"):
        load_ngram(tmp_path / "lm.bin", PIECES)
