"""RNN-T loss of logits, with its own gradient, in Keras operations (1211.3711).

For a joint network whose logits are too large to hold, see `joint_rnnt`.
"""

from typing import Any

import keras
from keras import ops

from asr_qat.losses.lattice import Cells, align, move_probabilities

Tensor = Any


def rnnt_loss(
    logits: Tensor,
    labels: Tensor,
    frame_lengths: Tensor,
    label_lengths: Tensor,
    blank: int = 0,
    fast_emit: Tensor | float = 0.0,
) -> Tensor:
    """Negative log-probability of the labels, summed over all alignments.

    Args:
        logits: float ``[batch, time, labels + 1, vocabulary]``, not normalised.
        labels: int ``[batch, labels]``; entries beyond a row's length are ignored.
        frame_lengths: int ``[batch]``, at least 1; frames beyond are ignored.
        label_lengths: int ``[batch]``.
        blank: id of the blank label.
        fast_emit: by how much more the gradient counts moves that emit a label than those that
            stay, so that labels come earlier (2010.11148): a number, or float ``[batch, labels]``.
            The loss itself is as without.

    Returns:
        float ``[batch]``, in nats. (Graves 2012, eq. 18 with gradient eq. 20.)

    Raises:
        ValueError: if the shapes do not fit together.
    """
    check_widths(logits.shape[2], labels.shape[1], "logits")
    time, width, vocabulary = ops.shape(logits)[1:]
    labels, frame_lengths, label_lengths = (
        ops.cast(v, "int32") for v in (labels, frame_lengths, label_lengths)
    )
    chosen = ops.one_hot(labels, vocabulary, dtype=logits.dtype)  # [batch, labels, vocabulary]
    chosen = ops.pad(chosen, ((0, 0), (0, 1), (0, 0)))[:, None]
    weights = emit_weights(fast_emit, labels, logits.dtype)
    cells = Cells.of(frame_lengths, label_lengths, time, width)

    @keras.ops.custom_gradient
    def loss(logits):
        log_probs = ops.log_softmax(logits, axis=-1)
        alignments = align(log_probs[..., blank], ops.sum(log_probs * chosen, axis=-1), cells)

        def gradient(*args, upstream=None):
            dy = args[0] if upstream is None else upstream
            stays, emits = move_probabilities(alignments.share, cells)
            emits = emits * weights[:, None, :]
            is_blank = ops.one_hot(ops.full((), blank, dtype="int32"), vocabulary, dtype=dy.dtype)
            taken = stays[..., None] * is_blank + emits[..., None] * chosen
            visited = (stays + emits)[..., None]
            return (visited * ops.exp(log_probs) - taken) * dy[:, None, None, None]

        return -alignments.log_likelihood, gradient

    return loss(logits)


def check_widths(held: int | None, given: int | None, name: str) -> None:
    """Raises `ValueError` if something does not hold one more than the labels given."""
    if held is not None and given is not None and given != held - 1:
        raise ValueError(f"{name} hold {held - 1} labels (their size less 1), but labels {given}")


def emit_weights(fast_emit: Tensor | float, labels: Tensor, dtype: str) -> Tensor:
    """How much moves that emit count, ``[batch, labels + 1]``; ``fast_emit`` as `rnnt_loss`."""
    faster = ops.broadcast_to(ops.cast(fast_emit, dtype), ops.shape(labels))
    return ops.pad(1.0 + faster, ((0, 0), (0, 1)))
