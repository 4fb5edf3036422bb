"""Greedy transducer search, frame by frame.

    for each frame:  repeat at most `max_symbols` times:
        k = argmax joint(frame, predicted);  stop at the blank;  emit k;  predicted = predict(k)

A. Graves, "Sequence Transduction with Recurrent Neural Networks", arXiv 1211.3711.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BLANK = 0


class Token(NamedTuple):
    """One emitted label."""

    label: int
    frame: int  # index of the encoder frame that emitted it, from the start of the stream


class GreedySearch:
    """The search of one stream."""

    def __init__(
        self,
        joint: Callable[[np.ndarray, np.ndarray], np.ndarray],
        predict: Callable[[int], np.ndarray],
        max_symbols: int,
    ):
        """Starts an utterance.

        Args:
          joint: (encoded [dim], predicted [1, dim]) -> logits [labels].
          predict: label -> predicted [1, dim], an array of its own; called with the blank
            first, then with each emitted label.
          max_symbols: most labels that one frame may emit.
        """
        self._joint, self._predict, self._max_symbols = joint, predict, max_symbols
        self._predicted = predict(BLANK)
        self._frame = 0
        self.tokens: list[Token] = []

    def advance(self, encoded: np.ndarray) -> None:
        """Searches further frames: encoded float32 [frames, dim]."""
        for frame in encoded:
            for _ in range(self._max_symbols):
                label = int(self._joint(frame, self._predicted).argmax())
                if label == BLANK:
                    break
                self.tokens.append(Token(label, self._frame))
                self._predicted = self._predict(label)
            self._frame += 1
