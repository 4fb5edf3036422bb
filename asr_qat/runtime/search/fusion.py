"""How language models are weighed against the recogniser.

Shallow fusion adds ``weight * log p(label)`` (Gulcehre et al., 1503.03535); a label bonus makes up
for the labels that this leaves out. The density ratio (McDermott et al., 2002.11268) also takes
off ``weight * log p`` of a model of the transcripts that the recogniser was trained with.
"""

from typing import Any

import numpy as np

from .scorer import LabelScorer


class Weighted:
    """A scorer whose scores are multiplied by a weight."""

    def __init__(self, scorer: LabelScorer, weight: float):
        """A negative weight takes the scores off."""
        self._scorer, self._weight = scorer, np.float32(weight)

    def start(self) -> Any:
        """The scorer's."""
        return self._scorer.start()

    def scores(self, state: Any) -> np.ndarray:
        """The scorer's, weighted."""
        return self._scorer.scores(state) * self._weight

    def advance(self, state: Any, label: int) -> Any:
        """The scorer's."""
        return self._scorer.advance(state, label)

    def final(self, state: Any) -> float:
        """The scorer's, weighted."""
        return float(self._scorer.final(state) * self._weight)


class LabelBonus:
    """The same for every label but the blank; it has no state."""

    def __init__(self, labels: int, bonus: float):
        """Nats for each of so many labels, the blank among them."""
        self._scores = np.full(labels, bonus, np.float32)
        self._scores[0] = 0.0
        self._scores.flags.writeable = False

    def start(self) -> None:
        """Nothing."""

    def scores(self, state: None) -> np.ndarray:
        """The bonus."""
        return self._scores

    def advance(self, state: None, label: int) -> None:
        """Nothing."""

    def final(self, state: None) -> float:
        """Nothing."""
        return 0.0


def density_ratio(
    target: LabelScorer, target_weight: float, source: LabelScorer, source_weight: float
) -> list[LabelScorer]:
    """``target_weight * log p_target - source_weight * log p_source``.

    Args:
      target: language model of what will be said.
      target_weight: of it.
      source: language model of the transcripts in training.
      source_weight: of it, not negative.
    """
    return [Weighted(target, target_weight), Weighted(source, -source_weight)]
