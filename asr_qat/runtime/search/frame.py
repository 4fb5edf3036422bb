"""One frame of a search: what may come next in it, after each hypothesis."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .decoder import BLANK
from .hypothesis import Hypothesis
from .prefix import Prefix


class Step(NamedTuple):
    """What may come next after some labels."""

    logits: np.ndarray  # float32 [labels]
    norm: float  # logarithm of the sum that their exponentials are divided by
    fused: np.ndarray  # the logits, with what the scorers add and what every label is worth


class Frame:
    """Asks the joint network for a frame, once for each prediction.

    Attributes:
      number: of the frame, from the start of the stream.
    """

    def __init__(
        self,
        joint: Callable[[np.ndarray, np.ndarray], np.ndarray],
        encoded: np.ndarray,
        number: int,
        label_bonus: float = 0.0,
    ):
        """Takes the frame, float32 [dim]."""
        self._joint, self._encoded, self._label_bonus = joint, encoded, label_bonus
        self.number = number
        self._steps: dict[Prefix, Step] = {}
        # By the identity of the prediction, which is kept so that it stays unique.
        self._asked: dict[int, tuple[np.ndarray, np.ndarray, float]] = {}

    def step(self, prefix: Prefix) -> Step:
        """What may come next after these labels."""
        found = self._steps.get(prefix)
        if found is None:
            _, logits, norm = self._logits(prefix.predicted)
            added = prefix.scores
            fused = logits if added is None else logits + added
            if self._label_bonus:
                fused = fused + self._label_bonus
                fused[BLANK] -= self._label_bonus
            found = self._steps[prefix] = Step(logits, norm, fused)
        return found

    def _logits(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        found = self._asked.get(id(predicted))
        if found is None:
            logits = self._joint(self._encoded, predicted).astype(np.float32)
            most = logits.max()
            norm = float(most) + math.log(float(np.exp(logits - most).sum()))
            found = self._asked[id(predicted)] = (predicted, logits, norm)
        return found

    def stay(self, hypothesis: Hypothesis) -> Hypothesis:
        """A hypothesis after the blank."""
        step = self.step(hypothesis.prefix)
        log_prob = hypothesis.log_prob + float(step.logits[BLANK]) - step.norm
        return hypothesis._replace(log_prob=log_prob)

    def emit(self, hypothesis: Hypothesis, label: int) -> Hypothesis:
        """A hypothesis after a label."""
        step = self.step(hypothesis.prefix)
        return Hypothesis(
            hypothesis.prefix.child(label),
            hypothesis.log_prob + float(step.logits[label]) - step.norm,
            (*hypothesis.frames, self.number),
        )
