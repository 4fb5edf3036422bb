"""Text to make language models from, and the tokenizer of a recogniser."""

import gzip
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from asr_qat.data.manifest import read_manifest
from asr_qat.data.tokenizer import WORD_BOUNDARY, LabelError, Tokenizer, tokenizer_from_config
from asr_qat.runtime.model_file import load_model_file
from asr_qat.runtime.search.backoff import BEGIN, END, UNKNOWN


def read_texts(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Sentences: the lines of text files (also ``.gz``), the texts of manifests (``.jsonl``).

    Raises:
        ValueError: a file is not UTF-8, or none of them has a sentence.
        OSError: a file cannot be read.
    """
    files = [Path(path) for path in paths]
    texts = [" ".join(line.split()) for path in files for line in _lines(path)]
    texts = [text for text in texts if text]
    if not texts:
        raise ValueError(f"{', '.join(map(str, files))}: expected a sentence a line, found none")
    return texts


def _lines(path: Path) -> Iterator[str]:
    if path.suffix == ".jsonl":
        yield from (utterance.text for utterance in read_manifest(path))
        return
    opened = (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else open(path, encoding="utf-8-sig")
    )
    with opened as file:
        try:
            yield from file
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: cannot be read as text: {error}") from None


def tokenizer_of(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a recogniser: a ``.keras`` file of `asr-qat train`, or a ``.tflite`` file.

    Neither TensorFlow nor Keras is needed.

    Raises:
        ValueError: the file is none of these.
    """
    if Path(path).suffix == ".keras":
        return tokenizer_from_config(_keras_config(path))
    vocabulary: dict[str, Any] = load_model_file(path).metadata.get("vocabulary") or {}
    if vocabulary.get("kind") == "characters":
        text = "".join(vocabulary["pieces"][1:]).replace(WORD_BOUNDARY, " ")
        vocabulary = {**vocabulary, "characters": text}
    try:
        return tokenizer_from_config(vocabulary)
    except ValueError as error:
        raise ValueError(f"{path}: is no recogniser with a tokenizer: {error}") from None


def _keras_config(path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))["config"]["tokenizer"]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a .keras file written by `asr-qat train`: {error}"
        ) from None


def encode(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[list[list[int]], list[str]]:
    """Labels of texts; what is wrong with those that cannot be written as labels.

    Raises:
        ValueError: no text can.
    """
    encoded, problems = [], []
    for text in texts:
        try:
            encoded.append(tokenizer.encode(text))
        except LabelError as error:
            problems.append(str(error))
    if not encoded:
        raise ValueError(f"none of {len(texts)} texts can be written as labels: {problems[0]}")
    return encoded, problems


def split_words(texts: Sequence[str]) -> tuple[list[list[int]], list[str]]:
    """Ids of the words of texts, and all words, sorted.

    Raises:
        ValueError: a word is a mark of the model's, such as ``<s>``.
    """
    split = [text.split() for text in texts]
    vocabulary = sorted({word for words in split for word in words})
    if marks := sorted({BEGIN, END, *UNKNOWN} & set(vocabulary)):
        raise ValueError(
            f"the text has the word {marks[0]!r}, which is a mark of n-gram models; expected "
            "plain text"
        )
    ids = {word: i for i, word in enumerate(vocabulary)}
    return [[ids[word] for word in words] for words in split], vocabulary
