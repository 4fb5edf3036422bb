"""Language models of any kind from their files."""

import os
from collections.abc import Sequence

from .lstm_lm import LstmScorer
from .ngram import load_ngram
from .scorer import LabelScorer


def load_language_model(
    path: str | os.PathLike[str],
    pieces: Sequence[str],
    level: str = "auto",
    unknown_penalty: float = 0.0,
) -> LabelScorer:
    """A language model as a scorer: a .tflite file, or one that `load_ngram` reads.

    Args:
      path: of the file, whose content says what it is.
      pieces: of the recogniser; index 0 is the blank.
      level: of an n-gram model; see `load_ngram`.
      unknown_penalty: of an n-gram model; see `load_ngram`.

    Raises:
      ValueError: what is wrong with the file, or that it does not fit the pieces.
      OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        is_tflite = file.read(8)[4:] == b"TFL3"
    return (
        LstmScorer(path, pieces) if is_tflite else load_ngram(path, pieces, level, unknown_penalty)
    )
