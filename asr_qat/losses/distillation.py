"""What a student's lattice should learn from a teacher's, beside the labels.

In each cell of the lattice teacher and student say how probable blank, the next label and anything
else are: three classes in place of the whole vocabulary, so that nothing but two scores a cell is
kept (S. Panchapagesan et al., "Efficient knowledge distillation for RNN-transducer models",
2011.06110). Cells count as often as the student's alignments visit them.
"""

from typing import Any, NamedTuple

from keras import ops

Tensor = Any
LEAST = 1e-6  # of a probability that something is divided by


class Taught(NamedTuple):
    """A teacher's scores, of the lattices of a batch."""

    stay: Tensor  # float [batch, time, labels + 1], log-probabilities of blank
    emit: Tensor  # the same, of the next label
    weight: float  # of the divergence beside the RNN-T loss


class Divergence(NamedTuple):
    """How far the student is from the teacher, and which way it should go."""

    value: Tensor  # float [batch], nats
    stays: Tensor  # float [batch, time, labels + 1], how much more blank should get
    emits: Tensor  # the next label


def divergence(
    taught: Taught, stay: Tensor, emit: Tensor, visited: Tensor, labels_follow: Tensor
) -> Divergence:
    """``weight * sum over cells of visited * KL(teacher || student)``.

    The gradient with respect to the logits is that of a loss which falls with the log-probabilities
    of blank and of the next label by `stays` and `emits`: with the teacher's ``t``, the student's
    ``p`` and ``r = t_rest / p_rest`` these are ``t - p r``. `visited` gets none.

    Args:
        taught: the teacher's scores.
        stay: the student's, as the teacher's.
        emit: the same.
        visited: float ``[batch, time, labels + 1]``, probability that an alignment is in the cell.
        labels_follow: bool, the same shape: whether a next label is there.
    """
    teacher = _classes(taught.stay, taught.emit, labels_follow)
    student = _classes(stay, emit, labels_follow)
    logs = [
        t * (ops.log(ops.maximum(t, LEAST)) - ops.log(ops.maximum(p, LEAST)))
        for t, p in zip(teacher, student, strict=True)
    ]
    counted = taught.weight * visited
    ratio = teacher[2] / ops.maximum(student[2], LEAST)
    stays, emits = (
        counted * (t - p * ratio) for t, p in zip(teacher[:2], student[:2], strict=True)
    )
    return Divergence(ops.sum(counted * sum(logs), axis=(1, 2)), stays, emits)


def _classes(stay, emit, labels_follow):
    """Probabilities of blank, the next label, and the rest."""
    of_blank, of_label = ops.exp(stay), ops.where(labels_follow, ops.exp(emit), 0.0)
    return of_blank, of_label, ops.maximum(1.0 - of_blank - of_label, 0.0)
