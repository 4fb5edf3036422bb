"""A corpus of sentences read by many synthetic voices, made by eSpeak NG."""

import itertools
import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from asr_qat.data.manifest import Utterance
from asr_qat.tools.speech_corpus import Line, make_speech_corpus

_PAUSE_PROBABILITY = 0.1  # after a word, in every other utterance
_MOST_DRAWS = 1000  # of words that training does not say


def read_sentences(paths: Sequence[str | os.PathLike[str]]) -> list[list[str]]:
    """The words of each line of some text files; blank lines are left out.

    Raises:
      ValueError: a file cannot be read, or no file holds a word.
    """
    sentences = []
    for path in paths:
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{path}: cannot be read as UTF-8 text: {reason}") from None
        sentences += [words for words in (line.lower().split() for line in lines) if words]
    if not sentences:
        raise ValueError(f"{', '.join(map(str, paths))}: expected sentences, found no word")
    return sentences


def most_frequent(sentences: Sequence[list[str]], count: int) -> set[str]:
    """The words that occur most often; of equally frequent ones those that come first."""
    counts = Counter(word for words in sentences for word in words)
    return {word for word, _ in counts.most_common(count)}


def runs_of(
    sentences: Sequence[list[str]], vocabulary: Collection[str], least: int
) -> list[list[str]]:
    """All runs of successive words of a sentence that are in a vocabulary, at least so long."""
    runs = [
        list(run)
        for words in sentences
        for known, run in itertools.groupby(words, key=vocabulary.__contains__)
        if known
    ]
    return [run for run in runs if len(run) >= least]


def make_sentence_corpus(
    out_dir: str | os.PathLike[str],
    train_text: Sequence[str | os.PathLike[str]],
    test_text: Sequence[str | os.PathLike[str]],
    *,
    train: int = 4000,
    dev: int = 400,
    test: int = 400,
    seed: int = 0,
    min_words: int = 3,
    max_words: int = 9,
    vocabulary: int | None = None,
    processes: int = 2,
    progress: bool = True,
) -> dict[str, list[Utterance]]:
    """Makes `train.jsonl`, `dev.jsonl`, `test.jsonl` and 16 kHz 16-bit WAV files.

    An utterance is a sentence, or so many successive words of one that is longer; voices are those
    of `speech_corpus.make_speech_corpus`. Development and test read sentences that training does
    not, in voices that it does not hear; of `test_text`, development takes the even lines and test
    the odd ones. With a vocabulary, utterances are successive words of a sentence that are all
    among the most frequent of the training text; development and test then say nothing that
    training says.

    Args:
      out_dir: folder to make; holds the manifests and a folder of WAV files for each split.
      train_text: text files, a sentence a line.
      test_text: the same, for development and test.
      train: number of training utterances; 0 skips the split.
      dev: number of development utterances.
      test: number of test utterances.
      seed: seed of all choices.
      min_words: fewest words of an utterance that is a part of a sentence.
      max_words: most words of an utterance.
      vocabulary: how many of the most frequent words are said; None: all.
      processes: number of processes; 1 works in this one.
      progress: show a bar on stderr.

    Returns:
      the utterances by split.

    Raises:
      EspeakError: eSpeak NG is not installed or lacks a voice.
      ValueError: the numbers make no sense, or a text cannot be read.
    """
    if not 1 <= min_words <= max_words:
        raise ValueError(
            f"expected 1 <= min_words <= max_words, got min_words={min_words},"
            f" max_words={max_words}"
        )
    held_out, read = read_sentences(test_text), read_sentences(train_text)
    sentences = {"train": read, "dev": held_out[::2], "test": held_out[1::2]}
    if vocabulary is not None:
        known = most_frequent(read, vocabulary)
        sentences = {name: runs_of(each, known, min_words) for name, each in sentences.items()}
        empty = [name for name, runs in sentences.items() if not runs]
        if empty:
            raise ValueError(
                f"the text for {empty[0]} has no {min_words} successive words among the "
                f"{vocabulary} most frequent; expected a larger vocabulary or shorter utterances"
            )
    trained: set[str] = set()

    def draw(split: str, rng: np.random.Generator) -> Line:
        for _ in range(_MOST_DRAWS):
            words = _some_words(sentences[split], rng, min_words, max_words)
            if split == "train" or vocabulary is None or " ".join(words) not in trained:
                break
        else:
            raise ValueError(
                f"the text for {split} has nothing that training does not say, in {_MOST_DRAWS} "
                "draws; expected more text or longer utterances"
            )
        if split == "train":
            trained.add(" ".join(words))
        count = len(words)
        pauses = rng.random(count) < rng.choice((0.0, _PAUSE_PROBABILITY))
        pauses[-1] = False
        said = " ".join(w + "," * bool(p) for w, p in zip(words, pauses, strict=True))
        return Line(text=" ".join(words), said=said)

    counts = {"train": train, "dev": dev, "test": test}
    return make_speech_corpus(
        out_dir, draw, counts, seed=seed, processes=processes, progress=progress
    )


def _some_words(sentences, rng, least, most):
    """Successive words of one of the sentences."""
    sentence = sentences[int(rng.integers(len(sentences)))]
    count = min(int(rng.integers(least, most + 1)), len(sentence))
    first = int(rng.integers(len(sentence) - count + 1))
    return sentence[first : first + count]
