"""One decoder of a file, prediction network and joint network, bound to an interpreter."""

from typing import Any

import numpy as np

from .model_file import ModelFileError
from .search.decoder import NetworkState
from .signature import Signature


class Decoder:
    """What a search asks: the prediction after a label, the logits of a frame."""

    def __init__(self, interpreter: Any, prediction: str, joint: str):
        """Binds two signatures of an interpreter.

        Raises:
          ModelFileError: there are no such signatures, or one lacks a tensor.
        """
        self._prediction = Signature(interpreter, prediction)
        self._joint = Signature(interpreter, joint)
        self._label = self._prediction.inputs["label"]
        self._predicted = self._prediction.outputs["predicted"]
        self._joint_encoded = self._joint.inputs["encoded"]
        self._joint_predicted = self._joint.inputs["predicted"]
        self._logits = self._joint.outputs["logits"]

    def check(self, dim: int, labels: int) -> None:
        """Checks that it reads frames of ``dim`` and knows so many labels.

        Raises:
          ModelFileError: it does not.
        """
        for what, got, wanted in (
            ("joint encoded", self._joint_encoded.shape[1:], (dim,)),
            ("joint predicted", self._joint_predicted.shape, self._predicted.shape),
            ("joint logits", self._logits.shape, (1, labels)),
        ):
            if got != wanted:
                raise ModelFileError(
                    f"{what} has the shape {list(got)}, expected {list(wanted)} from the rest of "
                    "the file"
                )

    @property
    def predicted_shape(self) -> tuple[int, ...]:
        """Of a prediction."""
        return self._predicted.shape

    @property
    def state_bytes(self) -> int:
        """Bytes of the state of one stream."""
        return self._prediction.state_bytes

    def predict(self, label: int, state: NetworkState) -> tuple[np.ndarray, NetworkState]:
        """Runs the prediction network on a label: float32 [1, dim] and states, all copies."""
        self._label[0] = label
        state = self._prediction.branch(state)
        return self._predicted.copy(), state

    def joint(self, encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Runs the joint network: logits float32 [labels], valid until the next call."""
        self._joint_encoded[0] = encoded
        self._joint_predicted[...] = predicted
        self._joint.invoke()
        return self._logits[0]
