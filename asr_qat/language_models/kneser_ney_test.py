"""Tests of Kneser-Ney estimation: by hand, against lmplz, and that probabilities add up to 1."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_qat.language_models.arpa_writer import write_arpa
from asr_qat.language_models.kneser_ney import (
    EstimationConfig,
    adjusted_counts,
    count_grams,
    discounts_of,
    estimate,
)
from asr_qat.language_models.perplexity import perplexity
from asr_qat.language_models.texts import split_words
from asr_qat.runtime.search.arpa import read_arpa

sentences_ = st.lists(st.lists(st.integers(0, 3), max_size=8), min_size=1, max_size=12)

TEXT = """\
the cat sat on the mat
the dog sat on the log
a cat saw the dog
a dog saw a cat
the cat and the dog sat
on the mat the cat slept
the dog slept on a log
a cat and a dog saw the log
"""

# KenLM 0.3.0: lmplz -o 3 --discount_fallback --prune 0 0 1 --text TEXT --arpa LMPLZ
LMPLZ = """\
\\data\\
ngram 1=14
ngram 2=32
ngram 3=8

\\1-grams:
-1.2852144	<unk>	0
0	<s>	-0.25756434
-0.78658444	</s>	0
-0.87873065	the	-0.14176895
-1.2669108	cat	-0.20361234
-1.2669108	sat	-0.13957441
-1.1566954	on	-0.13957441
-1.1043558	mat	-0.2787536
-1.2669108	dog	-0.2787536
-1.2669108	log	-0.083776996
-0.99584407	a	-0.11638835
-1.2669108	saw	-0.13957441
-1.1043558	and	-0.2787536
-1.2669108	slept	-0.2787536

\\2-grams:
-0.7417692	cat </s>	0
-0.55841756	sat </s>	0
-0.49096626	mat </s>	0
-0.68940556	dog </s>	0
-0.5083265	log </s>	0
-0.49096626	slept </s>	0
-0.48195586	<s> the	-0.30103
-0.6719636	on the	-0.17609124
-0.5136728	mat the	0
-0.6719636	saw the	0
-0.5136728	and the	0
-1.0815365	the cat	0
-0.95254254	a cat	0
-0.9477256	cat sat	0
-0.8330147	dog sat	0
-1.0099485	<s> on	0
-0.77595896	sat on	-0.30103
-0.56299126	slept on	0
-0.9357342	the mat	0
-0.7680161	the dog	-0.12493875
-0.95254254	a dog	-0.30103
-1.0815365	the log	-0.30103
-0.86611545	a log	0
-0.7272918	<s> a	-0.17609124
-0.6361876	on a	0
-0.6361876	saw a	0
-0.53763235	and a	0
-0.9477256	cat saw	0
-0.8330147	dog saw	0
-0.9678364	cat and	0
-0.9477256	cat slept	0
-0.8330147	dog slept	0

\\3-grams:
-0.1836849	the log </s>
-0.21722946	sat on the
-0.5354489	<s> the cat
-0.3896615	<s> a cat
-0.44349763	the dog sat
-0.38654673	on the mat
-0.4745652	<s> the dog
-0.24150912	a dog saw

\\end\\
"""


def model_of(text, **settings):
    return estimate(*split_words(text.splitlines()), EstimationConfig(**settings))


def probabilities(model, *context):
    """All words after a context, but for those without any probability."""
    ids = tuple(model.vocabulary.index(word) for word in context)
    found = np.exp(model.log_probs(ids))
    return {w: p for w, p in zip(model.vocabulary, found.tolist(), strict=True) if p > 1e-30}


def test_two_sentences_by_hand():
    """Too few n-grams for discounts: 0.5, 1 and 1.5 are taken.

    Words before "a", "b", "c": 1 each; before "</s>": 2. Of 5 in all, 3 x 0.5 + 1 are taken: 0.5
    goes to the uniform distribution over these four and "<unk>".
    """
    model, discounts = model_of("a b\na c", order=2)
    assert [found.estimated for found in discounts] == [False, False]
    assert probabilities(model) == pytest.approx(
        {"a": 0.2, "b": 0.2, "c": 0.2, "</s>": 0.3, "<unk>": 0.1}
    )
    # "<s> a": 2 of 2, of which 1 is taken, so a half backs off.
    assert probabilities(model, "<s>") == pytest.approx(
        {"a": 0.5 + 0.1, "b": 0.1, "c": 0.1, "</s>": 0.15, "<unk>": 0.05}
    )
    # "a b", "a c": 1 each, of which 0.5 is taken.
    assert probabilities(model, "a") == pytest.approx(
        {"a": 0.1, "b": 0.25 + 0.1, "c": 0.25 + 0.1, "</s>": 0.15, "<unk>": 0.05}
    )
    assert probabilities(model, "b")["</s>"] == pytest.approx(0.5 + 0.15)


def test_the_model_is_that_of_lmplz(tmp_path):
    path = tmp_path / "lmplz.arpa"
    path.write_text(LMPLZ)
    expected, (model, discounts) = read_arpa(path), model_of(TEXT, order=3, prune=(0, 0, 1))
    assert discounts[0].values == pytest.approx((0.142857, 1.92857, 2.42857), abs=1e-5)
    assert discounts[1].values == pytest.approx((0.526316, 1.64912, 1.94737), abs=1e-5)
    assert not discounts[2].estimated
    write_arpa(model, tmp_path / "ours.arpa")
    for found in (model, read_arpa(tmp_path / "ours.arpa")):
        assert by_words(found) == {
            words: pytest.approx(numbers, abs=2e-6) for words, numbers in by_words(expected).items()
        }


def by_words(model):
    """Nats of probability and back-off of each n-gram, by its words; "<s>" has no probability."""
    found: dict[tuple[str, ...], tuple[float, float]] = {}
    words: list[tuple[str, ...]] = [()]
    size = len(model.vocabulary)
    for table in model.tables:
        last = [model.vocabulary[i] for i in table.keys % size]
        words = [(*words[i], w) for i, w in zip(table.keys // size, last, strict=True)]
        numbers = zip(table.log_probs.tolist(), table.backoffs.tolist(), strict=True)
        found |= dict(zip(words, numbers, strict=True))
    found["<s>",] = (0.0, found["<s>",][1])
    return found


@settings(deadline=None, max_examples=50)
@given(sentences_, st.integers(1, 4), st.integers(0, 2))
def test_probabilities_of_every_context_add_up_to_one(sentences, order, threshold):
    config = EstimationConfig(order=order, prune=(0, threshold)[:order])
    model, _ = estimate(sentences, ["a", "b", "c", "d", "never"], config)
    begin, size = model.vocabulary.index("<s>"), len(model.vocabulary)
    contexts = {(), (4,), (4, 0), (begin,)}
    for sentence in sentences:
        marked = (begin, *sentence)
        contexts |= {marked[i:j] for j in range(len(marked)) for i in range(max(0, j - 3), j)}
    for context in {c[max(0, len(c) - order + 1) :] for c in contexts}:
        found = np.exp(model.log_probs(context))
        assert found.sum() == pytest.approx(1, abs=1e-9)
        assert np.count_nonzero(found > 1e-30) == size - 1  # all but <s>
        one_by_one = [np.exp(model.log_prob(context, word)) for word in range(size)]
        np.testing.assert_allclose(one_by_one, found, rtol=1e-9)
        shorter = model.log_probs(model.shortened(context))
        np.testing.assert_allclose(np.exp(shorter), found, rtol=1e-9)


@settings(deadline=None, max_examples=50)
@given(sentences_)
def test_counts(sentences):
    order, begin, end = 3, 4, 5
    grams = count_grams(sentences, 6, order, begin, end)
    marked = [(begin, *sentence, end) for sentence in sentences]
    raw = [
        Counter(m[i : i + n] for m in marked for i in range(len(m) - n + 1))
        for n in range(1, order + 1)
    ]
    words = [(word,) for word in range(6)]
    for n, each in enumerate(grams, 1):
        if n > 1:
            words = [words[i] + (key % 6,) for i, key in zip(each.parents, each.keys, strict=True)]
        assert dict(zip(words, each.counts, strict=True)) == {w: raw[n - 1][w] for w in words}
        assert set(raw[n - 1]) <= set(words)
        longer = grams[n] if n < order else None
        for gram, adjusted in zip(words, adjusted_counts(each, longer), strict=True):
            before = sum(longer_gram[1:] == gram for longer_gram in raw[n]) if longer else None
            whole = longer is None or gram[0] == begin
            assert adjusted == (raw[n - 1][gram] if whole else before)


def test_discounts():
    found = discounts_of(np.array([0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 9]))
    share = 4 / (4 + 2 * 2)
    expected = (1 - 2 * share * 2 / 4, 2 - 3 * share * 1 / 2, 3 - 4 * share * 1 / 1)
    assert found.estimated and found.values == pytest.approx(expected)
    for counts in ([1, 1, 2], [1, 2, 3, 3, 3, 3]):  # none of 3; a discount below zero
        assert discounts_of(np.array(counts)).values == (0.5, 1.0, 1.5)


def test_equal_models_make_equal_files(tmp_path):
    for name in ("a.arpa.gz", "b.arpa.gz", "a.arpa", "b.arpa"):
        write_arpa(model_of(TEXT, order=3)[0], tmp_path / name)
    for suffix in ("arpa.gz", "arpa"):
        one, two = ((tmp_path / f"{n}.{suffix}").read_bytes() for n in "ab")
        assert one == two
    assert len(list(tmp_path.iterdir())) == 4


def test_perplexity():
    model, _ = model_of("a b\na c", order=2)
    found = perplexity(model, [["a", "x"]], words=2)
    # p(a | <s>), p(<unk> | a), p(</s> | <unk>)
    assert found.nats == pytest.approx(-np.log(0.6 * 0.05 * 0.3))
    assert (found.tokens, found.words, found.unknown) == (3, 3, 1)
    assert found.per_token == pytest.approx((0.6 * 0.3) ** (-1 / 2))
    assert found.per_word == pytest.approx((0.6 * 0.05 * 0.3) ** (-1 / 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 0}, "order: received 0"),
        ({"prune": (1,)}, "prune: received '1', expected 0 for unigrams"),
        ({"prune": (0, 2, 1)}, "prune: received '0 2 1'"),
        ({"order": 2, "prune": (0, 0, 1)}, "at most 2"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        EstimationConfig(**settings)


def test_no_text():
    with pytest.raises(ValueError, match="expected sentences"):
        estimate([], ["a"], EstimationConfig())
    with pytest.raises(ValueError, match="the text has the word '</s>'"):
        split_words(["a </s>"])
