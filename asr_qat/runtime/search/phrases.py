"""Contextual biasing: a boost for the phrases of a list, whichever pieces spell them.

The automaton of Aho and Corasick (1975) over the characters of the phrases, each between word
boundaries ("▁new▁york▁"). A label moves it by all characters of its piece, so that every way to
divide a phrase into pieces counts. Each state has a potential, the boost of what is matched so
far; a label adds the difference of potentials, and a completed phrase its boost. A match that
fails thus gives back what it got, and what all labels and the end add together is exactly the sum
of the boosts of the phrases in the text.
"""

import os
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

WORD_START = "▁"
_CACHE_BYTES = 64 << 20  # of scores of all labels


class PhraseError(ValueError):
    """A line of the list that is no phrase, or one that the recogniser cannot write."""


class PhraseBias:
    """Boosts for phrases; a state is the number of a node."""

    def __init__(self, phrases: Mapping[str, float], pieces: Sequence[str]):
        """Builds the automaton.

        Args:
          phrases: text -> nats for each of its characters; spaces count nothing.
          pieces: of the recogniser; index 0 is the blank.

        Raises:
          PhraseError: a phrase has no characters, or some that are in no piece.
        """
        self._pieces = ["", *pieces[1:]]
        self._children: list[dict[str, int]] = [{}]
        self._potential = [0.0]  # of what is matched at a node
        self._gain = [0.0]  # of phrases that end at a node
        self._failure = [0]  # the longest other match that ends here, too
        letters = set("".join(self._pieces))
        for phrase, boost in phrases.items():
            words = phrase.split()
            if not words or not np.isfinite(boost):
                raise PhraseError(f"phrase {phrase!r} with boost {boost}: expected words, a number")
            if absent := sorted(set("".join(words)) - letters):
                raise PhraseError(
                    f"phrase {phrase!r}: no piece of the recogniser has {absent[0]!r}; it writes "
                    f"{''.join(sorted(letters - {WORD_START}))!r}"
                )
            self._add(words, boost, WORD_START if WORD_START in letters else "")
        self._link()
        self._start = self._moved(0, WORD_START)[0]
        most = max(16, _CACHE_BYTES // (4 * len(pieces)))
        self._cached = lru_cache(maxsize=most)(self._score_all)

    def start(self) -> int:
        """A word may begin, and nothing is matched."""
        return self._start

    def scores(self, state: int) -> np.ndarray:
        """What each label adds, float32 ``[labels]``."""
        return self._cached(state)

    def advance(self, state: int, label: int) -> int:
        """What is matched after a label."""
        return self._moved(state, self._pieces[label])[0]

    def final(self, state: int) -> float:
        """A phrase that the end completes; what a begun one got is given back."""
        return self._moved(state, WORD_START)[1] - self._potential[state]

    def _score_all(self, state: int) -> np.ndarray:
        moved = (self._moved(state, piece) for piece in self._pieces)
        scores = np.array([gain + self._potential[node] for node, gain in moved])
        scores = (scores - self._potential[state]).astype(np.float32)
        scores.flags.writeable = False
        return scores

    def _moved(self, node: int, text: str) -> tuple[int, float]:
        """The node after a text, and the boosts of phrases completed on the way."""
        gain = 0.0
        for character in text:
            while node and character not in self._children[node]:
                node = self._failure[node]
            node = self._children[node].get(character, 0)
            gain += self._gain[node]
        return node, gain

    def _add(self, words: Sequence[str], boost: float, boundary: str) -> None:
        node, matched = 0, 0
        for character in boundary + boundary.join(words) + boundary:
            self._potential[node] = max(self._potential[node], boost * matched)
            matched += character != WORD_START
            after = self._children[node].get(character)
            if after is None:
                after = self._children[node][character] = len(self._children)
                self._children.append({})
                self._potential.append(-np.inf)
                self._gain.append(0.0)
                self._failure.append(0)
            node = after
        self._gain[node] += boost * matched

    def _link(self) -> None:
        """Failures, and what nodes have through them; short matches come before longer ones."""
        queue = deque(self._children[0].values())
        while queue:
            node = queue.popleft()
            failure = self._failure[node]
            self._gain[node] += self._gain[failure]
            self._potential[node] = max(self._potential[node], self._potential[failure])
            for character, child in self._children[node].items():
                self._failure[child] = self._moved(failure, character)[0]
                queue.append(child)


def read_phrases(path: str | os.PathLike[str], boost: float) -> dict[str, float]:
    """Reads a list: a phrase a line, and maybe, after a tab, its boost.

    Args:
      path: of a text file.
      boost: of lines without one, nats for each character.

    Raises:
      PhraseError: a line is no phrase, or there is none.
      OSError: the file cannot be read.
    """
    phrases = {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except UnicodeDecodeError as error:
        raise PhraseError(f"{path}: is not UTF-8: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        phrase, tab, given = line.partition("\t")
        try:
            phrases[" ".join(phrase.split())] = float(given) if tab else boost
        except ValueError:
            raise PhraseError(
                f"{path}: line {number}: expected a phrase, or a phrase, a tab and a boost, "
                f"received {line!r}"
            ) from None
    if not phrases:
        raise PhraseError(f"{path}: expected a phrase a line, received none")
    return phrases


def load_phrases(path: str | os.PathLike[str], pieces: Sequence[str], boost: float) -> PhraseBias:
    """A list of phrases as a scorer; see `read_phrases`.

    Raises:
      PhraseError: also for a phrase that the recogniser cannot write.
    """
    phrases = read_phrases(path, boost)
    try:
        return PhraseBias(phrases, pieces)
    except PhraseError as error:
        raise PhraseError(f"{path}: {error}") from None
