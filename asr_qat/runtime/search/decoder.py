"""What a search asks of a model: the prediction after a label, the logits of a frame."""

from typing import Protocol

import numpy as np

BLANK = 0

# Of a prediction network; None before the first label. Never changed in place, so that
# hypotheses that branch share it.
NetworkState = tuple[np.ndarray, ...] | None

# States of so few bytes hold the last labels; larger ones hardly ever come up twice.
_SMALL_STATE = 256
_MOST_KEPT = 512  # predictions


class TransducerDecoder(Protocol):
    """Prediction network and joint network, of a file or of a Keras model."""

    def predict(self, label: int, state: NetworkState) -> tuple[np.ndarray, NetworkState]:
        """The prediction float32 [1, dim] after a label, an array of its own, and the state.

        It is asked first for the blank, with the state None: before any label.
        """

    def joint(self, encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Logits float32 [labels] of a frame [dim]; their softmax is the distribution."""


class Predictions:
    """Asks a decoder for predictions, but for each state and label once.

    Hypotheses that end with the same labels then share one array, where the network looks back on
    a few labels only, and so share the joint network's logits as well.
    """

    def __init__(self, decoder: TransducerDecoder):
        """Knows nothing yet."""
        self._predict = decoder.predict
        self._known: dict[tuple, tuple[np.ndarray, NetworkState]] = {}

    def after(self, label: int, state: NetworkState) -> tuple[np.ndarray, NetworkState]:
        """As `TransducerDecoder.predict`."""
        if state is None or sum(part.nbytes for part in state) > _SMALL_STATE:
            return self._predict(label, state)
        key = (label, *(part.tobytes() for part in state))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            found = self._known[key] = self._predict(label, state)
        return found
