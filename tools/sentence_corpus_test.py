import importlib.util

import pytest

from asr_qat.data.manifest import read_manifest
from asr_qat.tools.sentence_corpus import (
    make_sentence_corpus,
    most_frequent,
    read_sentences,
    runs_of,
)
from asr_qat.tools.speech_corpus import VARIANTS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)

TRAIN = "the cat sat on the mat and the dog saw it\nthe dog ran\n\nThe mat was red\n"
TEST = "the cat saw the dog\nthe dog sat on the red mat\nit ran and ran\nthe dog was on it\n"


@pytest.fixture
def texts(tmp_path):
    paths = [tmp_path / "train.txt", tmp_path / "test.txt"]
    for path, content in zip(paths, (TRAIN, TEST), strict=True):
        path.write_text(content)
    return paths


def test_sentences_in_other_voices_and_words(texts, tmp_path):
    corpus = make_sentence_corpus(
        tmp_path / "out", [texts[0]], [texts[1]], train=12, dev=3, test=3, min_words=2, max_words=4,
        processes=1, progress=False,
    )  # fmt: skip
    said = {"train": TRAIN.lower(), "dev": TEST, "test": TEST}
    for split, utterances in corpus.items():
        assert read_manifest(tmp_path / "out" / f"{split}.jsonl") == utterances
        for utterance in utterances:
            assert utterance.text in said[split] and 2 <= len(utterance.text.split()) <= 4
            assert utterance.speaker.split("+")[1] in VARIANTS[split]
    lines = TEST.splitlines()
    assert all(any(u.text in line for line in lines[1::2]) for u in corpus["test"])


def test_a_vocabulary_and_nothing_that_training_says(texts, tmp_path):
    known = most_frequent(read_sentences([texts[0]]), 9)
    corpus = make_sentence_corpus(
        tmp_path, [texts[0]], [texts[1]], train=3, dev=4, test=4, vocabulary=9, min_words=2,
        max_words=4, processes=1, progress=False,
    )  # fmt: skip
    for utterances in corpus.values():
        assert all(set(u.text.split()) <= known for u in utterances)
    trained = {u.text for u in corpus["train"]}
    assert not trained & {u.text for u in corpus["test"] + corpus["dev"]}


def test_runs_of_known_words():
    sentences = [["a", "b", "x", "a"], ["x"], ["b", "a", "b"]]
    assert runs_of(sentences, {"a", "b"}, 2) == [["a", "b"], ["b", "a", "b"]]
    assert most_frequent(sentences, 2) == {"a", "b"}


def test_what_is_refused(texts, tmp_path):
    with pytest.raises(ValueError, match="min_words=3, max_words=2"):
        make_sentence_corpus(tmp_path / "x", [texts[0]], [texts[1]], min_words=3, max_words=2)
    with pytest.raises(ValueError, match="has no 9 successive words among the 2 most frequent"):
        make_sentence_corpus(
            tmp_path / "x", [texts[0]], [texts[1]], vocabulary=2, min_words=9, max_words=9
        )
    with pytest.raises(ValueError, match="absent.txt: cannot be read"):
        make_sentence_corpus(tmp_path / "x", [tmp_path / "absent.txt"], [texts[1]])
    with pytest.raises(ValueError, match="for test has nothing that training does not say"):
        make_sentence_corpus(
            tmp_path / "x", [texts[0]], [texts[0]], train=99, dev=0, test=1, vocabulary=9,
            min_words=2, max_words=2,
        )  # fmt: skip
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="empty.txt: expected sentences, found no word"):
        make_sentence_corpus(tmp_path / "x", [texts[0]], [tmp_path / "empty.txt"])
    assert not (tmp_path / "x").exists()
