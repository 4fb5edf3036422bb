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
    """The search of one stream.

    Attributes:
      tokens: what was emitted so far.
      frame: index of the next frame.
      predicted: [1, dim], the prediction after the last token.
    """

    def __init__(
        self,
        joint: Callable[[np.ndarray, np.ndarray], np.ndarray],
        predict: Callable[[int], np.ndarray],
        max_symbols: int,
        first_frame: int = 0,
    ):
        """Starts an utterance.

        Args:
          joint: (encoded [dim], predicted [1, dim]) -> logits [labels].
          predict: label -> predicted [1, dim], an array of its own; called with the blank
            first, then with each emitted label.
          max_symbols: most labels that one frame may emit.
          first_frame: index of the first frame.
        """
        self._joint, self._predict, self._max_symbols = joint, predict, max_symbols
        self.predicted = predict(BLANK)
        self.frame = first_frame
        self.tokens: list[Token] = []

    def advance(self, encoded: np.ndarray) -> None:
        """Searches further frames: encoded float32 [frames, dim]."""
        for frame in encoded:
            for _ in range(self._max_symbols):
                label = int(self._joint(frame, self.predicted).argmax())
                if label == BLANK:
                    break
                self.tokens.append(Token(label, self.frame))
                self.predicted = self._predict(label)
            self.frame += 1
