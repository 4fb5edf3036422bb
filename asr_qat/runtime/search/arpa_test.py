"""Tests of reading ARPA files: what is in them, and what is wrong with damaged ones."""

import gzip
import math
import re

import numpy as np
import pytest

from asr_qat.runtime.search.arpa import ArpaError, read_arpa

ARPA = r"""a comment

\data\
ngram 1=5
ngram 2=4
ngram 3=2

\1-grams:
-1.0	<unk>
-99	<s>	-0.3
-0.5	</s>
-0.6	das	-0.2
-0.7	Öl	-0.1

\2-grams:
-0.4	<s> das	-0.15
-0.3	das Öl	-0.25
-0.8	Öl </s>
-0.9	Öl das

\3-grams:
-0.05	<s> das Öl
-inf	das Öl </s>

\end\
"""


def write(folder, text=ARPA, name="lm.arpa"):
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def log10(model, *words):
    """log10 p of the last word after the others."""
    *context, word = (model.vocabulary.index(w) for w in words)
    return model.log_prob(tuple(context), word) / math.log(10)


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_probabilities_back_off(tmp_path, name):
    model = read_arpa(write(tmp_path, name=name))
    assert model.order == 3 and model.vocabulary[3:] == ["das", "Öl"]
    for words, expected in {
        ("Öl",): -0.7,
        ("<s>", "das"): -0.4,
        ("<s>", "das", "Öl"): -0.05,
        ("<s>", "das", "das"): -0.15 - 0.2 - 0.6,
        ("das", "Öl", "das"): -0.25 - 0.9,
        ("Öl", "das", "Öl"): -0.3,  # "Öl das" has no weight
        ("<unk>", "das", "das"): -0.2 - 0.6,  # nor has "<unk> das", which is absent
        ("das", "Öl", "</s>"): -99.0,  # never
    }.items():
        assert log10(model, *words) == pytest.approx(expected, abs=1e-5)


def test_windows_line_ends_and_missing_blank_lines_do_not_matter(tmp_path):
    expected = read_arpa(write(tmp_path))
    for text in (ARPA.replace("\n", "\r\n"), ARPA.replace("\n\n", "\n").rstrip()):
        model = read_arpa(write(tmp_path, text))
        for found, table in zip(model.tables, expected.tables, strict=True):
            np.testing.assert_array_equal(found.keys, table.keys)
            np.testing.assert_array_equal(found.log_probs, table.log_probs)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ngram 2=4", "ngram 3=4", r"line 5: expected 'ngram 2=' and a number above 0, received"),
        ("ngram 1=5\n", "", r"line 4: expected 'ngram 1='"),
        ("ngram 2=4", "ngram 2=0", r"line 5: expected 'ngram 2='"),
        ("\\2-grams:", "\\3-grams:", r"line 15: expected '\2-grams:', received '\\3-grams:'"),
        ("ngram 2=4", "ngram 2=5", r"line 20: expected a 2-gram: a log10 probability, 2 word(s)"),
        ("ngram 2=4", "ngram 2=3", r"line 19: expected '\3-grams:', received '-0.9"),
        ("das Öl\t-0.2", "das\t-0.2", r"line 17: the word '-0.25' is not among the unigrams"),
        ("das Öl\t-0.25", "das", r"line 17: expected a 2-gram"),
        ("Öl </s>", "oil </s>", r"line 18: the word 'oil' is not among the unigrams"),
        ("-0.8\tÖl", "0.8\tÖl", r"line 18: expected a log10 probability of at most 0"),
        ("-0.8\tÖl", "x\tÖl", r"line 18: expected a log10 probability of at most 0"),
        ("\t-0.25", "\tnan", r"line 17: expected a log10 probability of at most 0, and a number"),
        ("-0.6\tdas", "-0.6\t</s>", r"line 12: the word '</s>' is there already"),
        ("Öl das", "das Öl", r"line 19: this n-gram is there already"),
        ("das Öl </s>", "das das </s>", r"line 23: the file lacks the n-gram that this one begins"),
        ("\\end\\", "-0.1\tdas Öl das", r"line 25: expected '\end\' after 2 3-grams, received"),
        ("\\end\\\n", "", r"line 24: the file ends here; is it truncated?"),
        ("\\data\\", "data", r"line 25: the file ends here"),
    ],
)
def test_damage_is_found_where_it_is(tmp_path, old, new, message):
    assert old in ARPA
    path = write(tmp_path, ARPA.replace(old, new, 1))
    with pytest.raises(ArpaError, match=re.escape(f"lm.arpa: {message}")):
        read_arpa(path)


def test_words_that_are_not_utf8(tmp_path):
    path = write(tmp_path, ARPA.encode().replace("\tÖl\t".encode(), b"\t\xd6l\t"))
    with pytest.raises(ArpaError, match="line 13: the word .* is not UTF-8"):
        read_arpa(path)


def test_every_truncation_is_found(tmp_path):
    whole = ARPA.rstrip().encode()
    for length in range(len(whole)):
        with pytest.raises(ArpaError):
            read_arpa(write(tmp_path, whole[:length]))
    packed = gzip.compress(whole)
    for length in range(1, len(packed)):
        (tmp_path / "cut.arpa.gz").write_bytes(packed[:length])
        with pytest.raises(ArpaError):
            read_arpa(tmp_path / "cut.arpa.gz")


def test_files_that_are_no_arpa(tmp_path):
    with pytest.raises(ArpaError, match="line 1000: expected .*data"):
        read_arpa(write(tmp_path, "word\n" * 5000))
    with pytest.raises(ArpaError, match="cannot be decompressed"):
        path = tmp_path / "x.arpa.gz"
        path.write_bytes(b"no gzip at all")
        read_arpa(path)
    with pytest.raises(FileNotFoundError):
        read_arpa(tmp_path / "absent.arpa")
