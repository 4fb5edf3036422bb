"""KenLM's binary files, read by the optional package `kenlm`."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arpa import LOG_10

MAGIC = b"mmap lm "  # with which the files begin


class KenlmModel:
    """A model of a KenLM binary file, with the methods of `BackoffModel` that scorers use.

    Attributes:
      vocabulary: None, because the files can say only whether they have a word.
    """

    vocabulary = None

    def __init__(self, path: str | os.PathLike[str]):
        """Opens a file.

        Raises:
          ValueError: `kenlm` is not installed, or cannot read the file.
        """
        try:
            import kenlm
        except ImportError:
            raise ValueError(
                f"{path}: is a KenLM binary file, for which the package kenlm is not installed; "
                "expected `pip install 'asr_qat[kenlm]'`, or the ARPA file that it was made from "
                "(binary files cannot be converted back)"
            ) from None
        try:
            self._model = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path}: KenLM cannot read it: {error}") from None
        self._new_state = kenlm.State

    def __contains__(self, word: str) -> bool:
        return word in self._model

    def start(self) -> Any:
        """The context of a sentence's first word."""
        state = self._new_state()
        self._model.BeginSentenceWrite(state)
        return state

    def step(self, context: Any, word: str) -> tuple[float, Any]:
        """Nats of a word after a context, and the context after it."""
        after = self._new_state()
        return self._model.BaseScore(context, word, after) * LOG_10, after

    def end(self, context: Any) -> float:
        """Nats of the end of the sentence."""
        return self.step(context, "</s>")[0]

    def scores(self, context: Any, words: Sequence[str]) -> np.ndarray:
        """Nats of each of these words after a context, float32."""
        return np.array([self.step(context, word)[0] for word in words], np.float32)
