"""What a stream tells of its text: n-best lists, and how much of the text it took back."""

from collections.abc import Sequence
from typing import NamedTuple

from .search.search import Found
from .search.words import WORD_START, Word, words_of


class Transcript(NamedTuple):
    """One of the likeliest transcripts. The scores are in nats."""

    text: str
    words: list[Word]
    labels: list[int]
    total: float  # what transcripts are compared by: what follows, and the penalty a label
    acoustic: float  # log-probability by the model
    scorers: tuple[float, ...]  # what each scorer added


def text_of(labels: Sequence[int], pieces: Sequence[str]) -> str:
    """The text of label ids, given the vocabulary."""
    return "".join(pieces[k] for k in labels).replace(WORD_START, " ").strip()


def transcript_of(found: Found, pieces: Sequence[str], frame_seconds: float) -> Transcript:
    """What was found, readable."""
    labels = [token.label for token in found.tokens]
    return Transcript(
        text=text_of(labels, pieces),
        words=words_of(found.tokens, pieces, frame_seconds),
        labels=labels,
        total=found.total,
        acoustic=found.acoustic,
        scorers=found.scorers,
    )


def words_taken_back(shown: str, now: str) -> int:
    """Words of a text that are to be erased before another is there: from the first change on.

    A last word that only grows is not taken back.
    """
    old, new = shown.split(), now.split()
    kept = 0
    while kept < min(len(old), len(new)) and old[kept] == new[kept]:
        kept += 1
    grows = kept == len(old) - 1 and kept < len(new) and new[kept].startswith(old[kept])
    return 0 if grows else len(old) - kept
