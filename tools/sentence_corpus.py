"""A corpus of sentences read by many synthetic voices, made by eSpeak NG."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr_qat.data.manifest import Utterance
from asr_qat.tools.speech_corpus import Line, make_speech_corpus

_PAUSE_PROBABILITY = 0.1  # after a word, in every other utterance


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
    processes: int = 2,
    progress: bool = True,
) -> dict[str, list[Utterance]]:
    """Makes `train.jsonl`, `dev.jsonl`, `test.jsonl` and 16 kHz 16-bit WAV files.

    An utterance is a sentence, or so many successive words of one that is longer; voices are those
    of `speech_corpus.make_speech_corpus`. Development and test read sentences that training does
    not, in voices that it does not hear; of `test_text`, development takes the even lines and test
    the odd ones.

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
    held_out = read_sentences(test_text)
    sentences = {"train": read_sentences(train_text), "dev": held_out[::2], "test": held_out[1::2]}

    def draw(split: str, rng: np.random.Generator) -> Line:
        sentence = sentences[split][int(rng.integers(len(sentences[split])))]
        count = min(int(rng.integers(min_words, max_words + 1)), len(sentence))
        first = int(rng.integers(len(sentence) - count + 1))
        words = sentence[first : first + count]
        pauses = rng.random(count) < rng.choice((0.0, _PAUSE_PROBABILITY))
        pauses[-1] = False
        said = " ".join(w + "," * bool(p) for w, p in zip(words, pauses, strict=True))
        return Line(text=" ".join(words), said=said)

    counts = {"train": train, "dev": dev, "test": test}
    return make_speech_corpus(
        out_dir, draw, counts, seed=seed, processes=processes, progress=progress
    )
