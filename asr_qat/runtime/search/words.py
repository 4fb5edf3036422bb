"""Words with their times, from tokens."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .hypothesis import Token

WORD_START = "▁"


class Word(NamedTuple):
    """A word and when its pieces were emitted; a streaming model emits them after they are said."""

    text: str
    start: float  # of the frame that emitted its first piece, seconds
    end: float  # end of the frame that emitted its last piece, seconds


def words_of(tokens: Iterable[Token], pieces: Sequence[str], frame_seconds: float) -> list[Word]:
    """The words of tokens, given the vocabulary; a mark of a word's start alone takes no time."""
    words: list[Word] = []
    begun = False  # whether the last word goes on with the next piece
    for label, frame in tokens:
        for number, part in enumerate(pieces[label].split(WORD_START)):
            begun = begun and number == 0
            if part:
                start, end = frame * frame_seconds, (frame + 1) * frame_seconds
                if begun:
                    last = words.pop()
                    words.append(Word(last.text + part, last.start, end))
                else:
                    words.append(Word(part, start, end))
                begun = True
    return words
