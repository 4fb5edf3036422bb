"""What adds to the score of a label beside the model: language models, phrases."""

from typing import Any, Protocol

import numpy as np


class LabelScorer(Protocol):
    """Scores labels one after another. States are opaque, immutable and shared by hypotheses."""

    def start(self) -> Any:
        """The state before the first label."""

    def scores(self, state: Any) -> np.ndarray:
        """What each label adds to a hypothesis, float32 ``[labels]`` in nats; 0 for the blank."""

    def advance(self, state: Any, label: int) -> Any:
        """The state after a label (never the blank)."""

    def final(self, state: Any) -> float:
        """What the end of the utterance adds, in nats."""
