"""N-gram models as scorers of labels: models of word pieces, and models of words.

A model of pieces scores every label as it comes. A model of words scores a word when the label
comes that ends it, which is the first one of the next word (a piece that begins with "▁", or the
piece "▁" itself), or the end of the utterance.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from .arpa import read_arpa
from .backoff import BEGIN, END, UNKNOWN
from .kenlm_file import MAGIC, KenlmModel
from .scorer import LabelScorer

WORD_START = "▁"
LEVELS = ("auto", "pieces", "words")
_CACHE_BYTES = 64 << 20  # of scores of all labels
_CACHED_WORDS = 1 << 18


class NgramModel(Protocol):
    """What a file gives: `BackoffModel` or `KenlmModel`. Contexts are hashable; nats."""

    @property
    def vocabulary(self) -> list[str] | None:
        """Its words, if the file tells them."""

    def __contains__(self, word: str) -> bool: ...

    def start(self) -> Any:
        """The context of a sentence's first word."""

    def step(self, context: Any, word: str) -> tuple[float, Any]:
        """The score of a word, and the context after it."""

    def end(self, context: Any) -> float:
        """The score of the end of the sentence."""

    def scores(self, context: Any, words: Sequence[str]) -> np.ndarray:
        """The score of each of these words."""


class PieceNgram:
    """A model whose words are the recogniser's pieces."""

    def __init__(self, model: NgramModel, pieces: Sequence[str], unknown_penalty: float = 0.0):
        """Binds a model to a vocabulary.

        Args:
          model: of pieces.
          pieces: of the recogniser; index 0 is the blank.
          unknown_penalty: nats, added to the score of pieces that the model does not know.
        """
        self._model, self._pieces = model, list(pieces)
        unknown = [piece not in model for piece in pieces]
        self._added = np.where(unknown, np.float32(unknown_penalty), np.float32(0.0))
        most = max(16, _CACHE_BYTES // self._added.nbytes)
        self._cached = lru_cache(maxsize=most)(self._score_all)

    def start(self) -> Any:
        """The context of the first piece."""
        return self._model.start()

    def scores(self, state: Any) -> np.ndarray:
        """What each label adds, float32 ``[labels]``."""
        return self._cached(state)

    def advance(self, state: Any, label: int) -> Any:
        """The context after a label."""
        return self._model.step(state, self._pieces[label])[1]

    def final(self, state: Any) -> float:
        """What the end adds."""
        return self._model.end(state)

    def _score_all(self, state: Any) -> np.ndarray:
        scores = self._model.scores(state, self._pieces) + self._added
        scores[0] = 0.0
        scores.flags.writeable = False
        return scores


class WordState(NamedTuple):
    """The words so far, and the beginning of the next one."""

    context: Any
    begun: str


class WordNgram:
    """A model of words, spelled by the recogniser's pieces."""

    def __init__(self, model: NgramModel, pieces: Sequence[str], unknown_penalty: float = 0.0):
        """Binds a model to a vocabulary.

        Args:
          model: of words.
          pieces: of the recogniser; index 0 is the blank.
          unknown_penalty: nats, added for every word that the model does not know.
        """
        self._model, self._penalty = model, unknown_penalty
        # A piece's text up to its last word boundary completes words; the rest begins one.
        self._parts = [tuple(piece.split(WORD_START)) for piece in pieces]
        self._parts[0] = ("",)
        ending: dict[tuple[str, ...], list[int]] = {}
        for label, parts in enumerate(self._parts):
            if len(parts) > 1:
                ending.setdefault(parts[:-1], []).append(label)
        self._ending = {parts: np.array(labels) for parts, labels in ending.items()}
        self._word = lru_cache(maxsize=_CACHED_WORDS)(self._score_word)

    def start(self) -> WordState:
        """No words, nothing begun."""
        return WordState(self._model.start(), "")

    def scores(self, state: WordState) -> np.ndarray:
        """What each label adds, float32 ``[labels]``: the words that it ends."""
        scores = np.zeros(len(self._parts), np.float32)
        for parts, labels in self._ending.items():
            scores[labels] = self._completed(state, parts)[0]
        return scores

    def advance(self, state: WordState, label: int) -> WordState:
        """The words after a label."""
        *parts, rest = self._parts[label]
        if not parts:
            return WordState(state.context, state.begun + rest)
        return WordState(self._completed(state, parts)[1], rest)

    def final(self, state: WordState) -> float:
        """What the end adds: the last word, and the end of the sentence."""
        score, context = self._completed(state, ("",))
        return score + self._model.end(context)

    def _completed(self, state: WordState, parts: Sequence[str]) -> tuple[float, Any]:
        """Score of the begun word, with the first part behind it, and of further words."""
        total, context = 0.0, state.context
        for word in (state.begun + parts[0], *parts[1:]):
            if word:
                score, context = self._word(context, word)
                total += score
        return total, context

    def _score_word(self, context: Any, word: str) -> tuple[float, Any]:
        score, after = self._model.step(context, word)
        return score + (0.0 if word in self._model else self._penalty), after


def load_model(path: str | os.PathLike[str]) -> NgramModel:
    """Reads an ARPA file (also ``.gz``), or a KenLM binary file where `kenlm` is installed.

    Raises:
      ValueError: what is wrong with the file, and where.
      OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        is_kenlm = file.read(len(MAGIC)) == MAGIC
    return KenlmModel(path) if is_kenlm else read_arpa(path)


def load_ngram(
    path: str | os.PathLike[str],
    pieces: Sequence[str],
    level: str = "auto",
    unknown_penalty: float = 0.0,
) -> LabelScorer:
    """An n-gram file as a scorer.

    Args:
      path: of an ARPA file (also ``.gz``) or a KenLM binary file.
      pieces: of the recogniser; index 0 is the blank.
      level: what the model's words are: ``"pieces"``, ``"words"``, or ``"auto"`` (`level_of`).
      unknown_penalty: nats, added for every word (or piece) that the model does not know.

    Raises:
      ValueError: what is wrong with the file, and where; or it does not fit the pieces.
      OSError: it cannot be read.
    """
    if level not in LEVELS:
        raise ValueError(f"level {level!r}: expected one of {', '.join(LEVELS)}")
    model = load_model(path)
    if level == "auto":
        level = level_of(path, model, pieces)
    kind = PieceNgram if level == "pieces" else WordNgram
    return kind(model, pieces, unknown_penalty)


def level_of(path: str | os.PathLike[str], model: NgramModel, pieces: Sequence[str]) -> str:
    """Whether a model's words are ``"pieces"`` of the recogniser or ``"words"``.

    They are pieces if all of them are in the recogniser's vocabulary; of a KenLM binary file,
    which does not list its words, if it has a piece with "▁".

    Raises:
      ValueError: they are pieces of another vocabulary, or words that no pieces can spell.
    """
    if model.vocabulary is None:
        known = [piece for piece in pieces if WORD_START in piece and piece in model]
        return "pieces" if known else "words"
    words = set(model.vocabulary) - {BEGIN, END, *UNKNOWN}
    other = sorted(words - set(pieces))
    if not other:
        return "pieces"
    if marked := [word for word in other if WORD_START in word]:
        raise ValueError(
            f"{path}: has word pieces of another vocabulary, such as {marked[0]!r}; expected a "
            "language model of the recogniser's pieces, or of words"
        )
    letters = set("".join(pieces[1:]))
    if WORD_START not in letters or not any(letters.issuperset(word) for word in words):
        raise ValueError(
            f"{path}: the recogniser cannot write its words, such as {other[0]!r}, with its "
            f"letters {''.join(sorted(letters))!r}; expected words in the case of the transcripts"
        )
    return "words"
