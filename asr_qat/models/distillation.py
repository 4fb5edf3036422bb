"""A teacher for a transducer: usually the float model that it began as."""

import hashlib
from typing import Any

import numpy as np
from keras import ops

from asr_qat.losses.distillation import Taught
from asr_qat.losses.distributions import Softmax
from asr_qat.losses.joint_rnnt import lattice_scores


class Teacher:
    """A trained transducer that another one should agree with (`Transducer.learn_from`).

    It hears what the student hears, without masked features and dropout, and is not trained.

    Args:
        model: a `Transducer`; its last pass teaches all passes of the student.
        weight: of the divergence beside the RNN-T loss; see `losses.distillation`.

    Raises:
        ValueError: for a weight that is not positive.
    """

    def __init__(self, model: Any, weight: float = 1.0):
        if not 0.0 < weight < float("inf"):
            raise ValueError(f"weight of the teacher: received {weight}, expected a number above 0")
        self.model, self.weight = model, float(weight)

    def check(self, student: Any) -> None:
        """Raises `ValueError` where it cannot teach the student."""
        last = self.model.passes[-1]
        mine, other = self.model.tokenizer_config["pieces"], student.tokenizer_config["pieces"]
        if mine != other:
            raise ValueError(
                f"the teacher's vocabulary has {len(mine)} labels that are not the {len(other)} "
                "labels of the student"
            )
        for one in student.passes:
            softmax = all(isinstance(p.joint.distribution, Softmax) for p in (one, last))
            if one.factor != last.factor or not softmax:
                raise ValueError(
                    f"pass {one.name!r} has a frame for {one.factor} feature frames and "
                    f"{type(one.joint.distribution).__name__}; the teacher for {last.factor} and "
                    f"{type(last.joint.distribution).__name__}: expected the same and Softmax"
                )

    def taught(self, batch: dict[str, Any]) -> Taught:
        """Its scores of the lattices of a batch."""
        (inputs,) = self.model(batch, training=False)
        lengths = self.model.passes[-1].lengths(self.model.feature_length(batch["audio_length"]))
        scores = lattice_scores(inputs, batch["labels"], lengths, batch["label_length"])
        return Taught(*scores, self.weight)

    def document(self) -> dict[str, Any]:
        """JSON-ready: its weight and a digest of what it is."""
        digest = hashlib.sha256()
        for variable in self.model.weights:
            digest.update(np.ascontiguousarray(ops.convert_to_numpy(variable)).tobytes())
        return {"weight": self.weight, "digest": digest.hexdigest()[:16]}
