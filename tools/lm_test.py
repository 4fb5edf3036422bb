"""Tests of the verb `lm`, and of what it makes: n-gram and LSTM models, read back."""

import argparse
import gzip
import json
import math

import pytest

from asr_qat.export.metadata import attach
from asr_qat.export.testing import tiny_float_model, tiny_metadata
from asr_qat.runtime.model_file import ModelFileError, load_model_file
from asr_qat.runtime.search.load import load_language_model
from asr_qat.runtime.search.lstm_lm import LstmScorer
from asr_qat.runtime.search.ngram import PieceNgram, WordNgram
from asr_qat.tools import fusion_flags
from asr_qat.tools.main import build_parser

PIECES = ["<blank>", "a", "b", "▁"]
TEXT = "ab ba\nb a ab\nab ab\nba\n" * 6
DEV = "ab a\nba b\n"


def run(capsys, *arguments):
    argv = ["asr-qat", "lm", *map(str, arguments)]
    args = build_parser(argv).parse_args(argv[1:])
    assert args.verb_run(args) == 0
    return capsys.readouterr()


@pytest.fixture
def files(tmp_path):
    """Text to train on and held out, and a recogniser of three characters."""
    (tmp_path / "train.txt").write_text(TEXT)
    (tmp_path / "dev.txt.gz").write_bytes(gzip.compress(DEV.encode()))
    vocabulary = {"kind": "characters", "pieces": PIECES}
    metadata = {**tiny_metadata(), "vocabulary": vocabulary}
    (tmp_path / "asr.tflite").write_bytes(attach(tiny_float_model()[0], metadata))
    return tmp_path


def nats_of(scorer, lines):
    """Minus log probability of lines, label by label, as a search adds it."""
    total = 0.0
    for line in lines.splitlines():
        state = scorer.start()
        for character in line.replace(" ", "▁"):
            label = PIECES.index(character)
            scores = scorer.scores(state)
            assert scores.shape == (len(PIECES),) and scores[0] == 0.0
            total -= float(scores[label])
            state = scorer.advance(state, label)
        total -= scorer.final(state)
    return total


def test_ngrams_of_pieces(files, capsys):
    out = files / "lm.arpa"
    given = ("--text", files / "train.txt", "--pieces", files / "asr.tflite", "--out", out)
    said = run(capsys, "ngram", *given, "--order", 3, "--dev", files / "dev.txt.gz", "--json")
    report = json.loads(said.out)
    assert report["tokens"] == len(TEXT.replace("\n", "")) and report["sentences"] == 24
    assert report["ngrams"][0] == 6 and report["bytes"] == out.stat().st_size  # and three marks
    scorer = load_language_model(out, PIECES)
    assert isinstance(scorer, PieceNgram)
    nats = nats_of(scorer, DEV)
    assert report["dev"]["nats"] == pytest.approx(nats, rel=1e-5)
    assert report["dev"]["per_token"] == pytest.approx(math.exp(nats / 10))  # 8 and 2 ends
    assert report["dev"]["per_word"] == pytest.approx(math.exp(nats / 6))


def test_ngrams_of_words(files, capsys):
    out = files / "lm.arpa.gz"
    given = ("--text", files / "train.txt", "--out", out, "--order", 2, "--prune", 0, 6)
    said = run(capsys, "ngram", *given, "--dev", files / "dev.txt.gz")
    assert "lm.arpa.gz: 1" in said.out and "n-grams" in said.out
    assert "a known word" in said.out and "(6 words and ends)" in said.out
    assert "took 0.5, 1 and 1.5" in said.err
    assert isinstance(load_language_model(out, PIECES), WordNgram)


def test_text_that_the_pieces_cannot_write(files, capsys):
    (files / "other.txt").write_text("ab\nabc\n")
    given = ("--pieces", files / "asr.tflite", "--out", files / "lm.arpa")
    said = run(capsys, "ngram", "--text", files / "other.txt", *given)
    assert "left out 1 of 2 sentences: character 'c'" in said.err
    (files / "other.txt").write_text("c\n")
    with pytest.raises(ValueError, match="none of 1 texts can be written as labels: character 'c'"):
        run(capsys, "ngram", "--text", files / "other.txt", *given)
    (files / "other.txt").write_text("\n")
    with pytest.raises(ValueError, match="other.txt: expected a sentence a line, found none"):
        run(capsys, "ngram", "--text", files / "other.txt", *given)


def test_the_folder_must_be_there(files, capsys):
    given = ("--text", files / "train.txt", "--out", files / "absent" / "lm.arpa")
    with pytest.raises(ValueError, match="lm.arpa: there is no folder .*absent"):
        run(capsys, "ngram", *given)


def test_an_lstm_is_trained_and_read_back(files, capsys):
    out = files / "lm.tflite"
    given = ("--text", files / "train.txt", "--pieces", files / "asr.tflite", "--out", out)
    sizes = ("--units", 32, "--embedding", 32, "--epochs", 4, "--batch-size", 8)
    more = ("--learning-rate", 0.03, "--recipe", "dynamic_wi4_afp32", "--dev", files / "dev.txt.gz")
    said = run(capsys, "lstm", *given, *sizes, *more, "--json")
    report = json.loads(said.out)
    assert "epoch 4 of 4: perplexity" in said.err
    first, *_, last = report["epochs"]
    assert last["train"] < 0.7 * first["train"] and last["dev"]["per_token"] < len(PIECES)
    assert report["layers_bit_equal"] == report["layers"] == 2
    layers = load_model_file(out).metadata["recipe"]["layers"]
    assert {layer["bits"] for layer in layers} == {4}

    scorer = load_language_model(out, PIECES)
    assert isinstance(scorer, LstmScorer)
    # The file's 4-bit products are those of Keras; what is computed in float may differ a little.
    assert nats_of(scorer, DEV) == pytest.approx(report["dev"]["nats"], rel=1e-3)
    state = scorer.advance(scorer.start(), 1)
    one, two = (scorer.advance(state, label) for label in (1, 2))
    scorer.scores(two)  # another hypothesis in between
    before = scorer.scores(one).copy()
    assert scorer.advance(state, 1) is one and (scorer.scores(one) == before).all()
    with pytest.raises(ModelFileError, match="lm.tflite: is a language model of 4 other pieces"):
        LstmScorer(out, ["<blank>", "a", "c", "▁"])
    with pytest.raises(ModelFileError, match="asr.tflite: is no language model"):
        LstmScorer(files / "asr.tflite", PIECES)


def test_the_flags_of_a_search(files, capsys):
    parser = argparse.ArgumentParser()
    fusion_flags.add_fusion_arguments(parser)
    assert fusion_flags.scorers_from(parser.parse_args([]), PIECES) == []
    out, phrases = str(files / "lm.arpa"), files / "phrases.txt"
    run(capsys, "ngram", "--text", files / "train.txt", "--out", out)
    phrases.write_text("ba\nab\t1.5\n")
    given = ["--lm", out, "--lm-weight", "0.5", "--label-bonus", "0.25", "--phrases", str(phrases)]
    scorers = fusion_flags.scorers_from(parser.parse_args(given), PIECES)
    alone = load_language_model(out, PIECES)
    # Two phrases of two characters, and nine labels.
    expected = 0.5 * nats_of(alone, DEV) - 2 * (0.5 + 1.5) - 8 * 0.25
    assert sum(nats_of(scorer, DEV) for scorer in scorers) == pytest.approx(expected, rel=1e-5)
    given = ["--lm", out, "--source-lm", out, "--source-lm-weight", "0.3", "--lm-weight", "0.3"]
    ratio = fusion_flags.scorers_from(parser.parse_args(given), PIECES)
    assert sum(nats_of(scorer, DEV) for scorer in ratio) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="--source-lm: expected --lm, too"):
        fusion_flags.scorers_from(parser.parse_args(["--source-lm", out]), PIECES)
