"""What a joint network's logits say of the next label: objects that a joint and its loss share."""

from typing import Any, NamedTuple

from keras import ops

from asr_qat.losses.lattice import IMPOSSIBLE

Tensor = Any


class Scores(NamedTuple):
    """Of some cells of a lattice, each float ``[cells]``."""

    stay: Tensor  # log-probability of blank
    emit: Tensor  # of the next label
    norm: Tensor  # logarithm of the sum that the logits' exponentials are divided by


class Softmax:
    """One softmax over blank and all labels (1211.3711)."""

    def log_probs(self, logits: Tensor) -> Tensor:
        """Something whose softmax is the distribution: the logits themselves."""
        return logits

    def scores(self, logits: Tensor, labels: Tensor, blank: int) -> Scores:
        """Of cells with logits ``[cells, vocabulary]`` and next labels int32 ``[cells]``."""
        norm = ops.logsumexp(logits, axis=-1)
        return Scores(logits[:, blank] - norm, _chosen(logits, labels) - norm, norm)

    def gradient(
        self, logits: Tensor, norm: Tensor, labels: Tensor, blank: int, stays: Tensor, emits: Tensor
    ) -> Tensor:
        """d loss / d logits ``[cells, vocabulary]``.

        Args:
            logits: as for `scores`.
            norm: of them.
            labels: the next ones.
            blank: its id.
            stays: float ``[cells]``, how much the loss falls with the log-probability of blank.
            emits: with that of the next label.
        """
        visited = (stays + emits)[:, None]
        taken = _taken(logits, labels, blank, stays, emits)
        return ops.exp(logits - norm[:, None]) * visited - taken


class FactorizedBlank:
    """Blank or not by a sigmoid, then a softmax over the labels alone: HAT (2003.07705)."""

    def log_probs(self, logits: Tensor) -> Tensor:
        """Logarithms of the probabilities; ``[..., vocabulary]``, blank first."""
        blank, labels = logits[..., :1], ops.log_softmax(logits[..., 1:], axis=-1)
        return ops.concatenate([_log_sigmoid(blank), labels + _log_sigmoid(-blank)], axis=-1)

    def scores(self, logits: Tensor, labels: Tensor, blank: int) -> Scores:
        """As `Softmax.scores`."""
        of_labels = ops.where(_columns(logits) == blank, IMPOSSIBLE, logits)
        norm = ops.logsumexp(of_labels, axis=-1)
        of_blank = logits[:, blank]
        emit = _chosen(logits, labels) - norm + _log_sigmoid(-of_blank)
        return Scores(_log_sigmoid(of_blank), emit, norm)

    def gradient(self, logits, norm, labels, blank, stays, emits):
        """As `Softmax.gradient`."""
        of_labels = ops.exp(logits - norm[:, None]) * emits[:, None]
        of_blank = ops.sigmoid(logits) * (stays + emits)[:, None]
        expected = ops.where(_columns(logits) == blank, of_blank, of_labels)
        return expected - _taken(logits, labels, blank, stays, emits)


def _log_sigmoid(x):
    """log(sigmoid(x)), in operators that TFLite has, so that a file computes what was trained."""
    return ops.minimum(x, 0.0) - ops.log(1.0 + ops.exp(-ops.abs(x)))


def _columns(logits):
    return ops.arange(0, logits.shape[-1], dtype="int32")[None, :]


def _chosen(logits, labels):
    return ops.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def _taken(logits, labels, blank, stays, emits):
    """The moves' probabilities, in the columns of blank and of the next label."""
    columns = _columns(logits)
    of_blank = ops.where(columns == blank, stays[:, None], 0.0)
    return of_blank + ops.where(columns == labels[:, None], emits[:, None], 0.0)


# As configurations call them.
DISTRIBUTIONS: dict[str, Any] = {"softmax": Softmax(), "factorized_blank": FactorizedBlank()}
