"""RNN-T loss with its own gradient, in Keras operations (1211.3711).

The lattice is walked by anti-diagonals: on diagonal n = t + u all cells are independent, so a
batch needs ``time + labels`` steps of vector arithmetic, whatever the backend. The gradient is
analytic, from the forward and backward variables, and fused with the log-softmax.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any
IMPOSSIBLE = -1e30  # the logarithm of a probability of nothing


def check_lengths(frame_lengths, label_lengths, frames, labels, max_labels_per_frame=None) -> None:
    """Checks lengths of concrete arrays.

    Args:
        frame_lengths: int ``[batch]``.
        label_lengths: int ``[batch]``.
        frames: size of the logits' time axis.
        labels: size of the labels' axis.
        max_labels_per_frame: most labels that decoding emits in a frame; None: no bound.

    Raises:
        ValueError: names the first row whose lengths do not fit.
    """
    rows = zip(np.asarray(frame_lengths), np.asarray(label_lengths), strict=True)
    for row, (frame_length, label_length) in enumerate(rows):
        if not 1 <= frame_length <= frames:
            raise ValueError(f"row {row}: {frame_length} frames, expected 1 to {frames}")
        if not 0 <= label_length <= labels:
            raise ValueError(f"row {row}: {label_length} labels, expected 0 to {labels}")
        if max_labels_per_frame and label_length > frame_length * max_labels_per_frame:
            raise ValueError(
                f"row {row}: {label_length} labels are longer than {frame_length} frames allow "
                f"({max_labels_per_frame} labels a frame)"
            )


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
        float ``[batch]``, in nats. (Graham 2012, eq. 18 with gradient eq. 20.)

    Raises:
        ValueError: if the shapes do not fit together.
    """
    held, given = logits.shape[2], labels.shape[1]
    if held is not None and given is not None and given != held - 1:
        raise ValueError(
            f"logits hold {held - 1} labels (their third axis less 1), but labels hold {given}"
        )
    time, width, vocabulary = ops.shape(logits)[1:]
    labels, frame_lengths, label_lengths = (
        ops.cast(v, "int32") for v in (labels, frame_lengths, label_lengths)
    )
    chosen = ops.one_hot(labels, vocabulary, dtype=logits.dtype)  # [batch, labels, vocabulary]
    chosen = ops.pad(chosen, ((0, 0), (0, 1), (0, 0)))[
        :, None
    ]  # [batch, 1, labels + 1, vocabulary]
    faster = ops.broadcast_to(ops.cast(fast_emit, logits.dtype), ops.shape(labels))
    weights = ops.pad(1.0 + faster, ((0, 0), (0, 1)))[:, None, :]  # of moves that emit
    inside = _inside(frame_lengths, label_lengths, time, width)
    last = ops.logical_and(
        ops.arange(0, time, dtype="int32")[None, :, None] == frame_lengths[:, None, None] - 1,
        ops.arange(0, width, dtype="int32")[None, None, :] == label_lengths[:, None, None],
    )

    @keras.ops.custom_gradient
    def loss(logits):
        log_probs = ops.log_softmax(logits, axis=-1)
        # After the last frame's blank the utterance ends; elsewhere moves must stay inside.
        stay = log_probs[..., blank]
        emit = ops.sum(log_probs * chosen, axis=-1)
        after_stay = ops.pad(inside[:, 1:], ((0, 0), (0, 1), (0, 0)), constant_values=False)
        after_emit = ops.pad(inside[:, :, 1:], ((0, 0), (0, 0), (0, 1)), constant_values=False)
        inner_stay = ops.where(ops.logical_and(inside, after_stay), stay, IMPOSSIBLE)
        emit = ops.where(ops.logical_and(inside, after_emit), emit, IMPOSSIBLE)
        ending = ops.where(last, stay, IMPOSSIBLE)
        beta = _backward(inner_stay, emit, ending)
        total = beta[:, 0, 0]

        def gradient(*args, upstream=None):
            dy = args[0] if upstream is None else upstream
            alpha = _forward(inner_stay, emit)
            # The probability that an alignment takes each move, given the labels.
            beta_stay = ops.pad(beta[:, 1:], ((0, 0), (0, 1), (0, 0)), constant_values=IMPOSSIBLE)
            beta_emit = ops.pad(
                beta[:, :, 1:], ((0, 0), (0, 0), (0, 1)), constant_values=IMPOSSIBLE
            )
            offset = alpha - total[:, None, None]
            stays = ops.exp(offset + inner_stay + beta_stay) + ops.exp(offset + ending)
            emits = weights * ops.exp(offset + emit + beta_emit)
            is_blank = ops.one_hot(ops.full((), blank, dtype="int32"), vocabulary, dtype=dy.dtype)
            taken = stays[..., None] * is_blank + emits[..., None] * chosen
            visited = (stays + emits)[..., None]
            return (visited * ops.exp(log_probs) - taken) * dy[:, None, None, None]

        return -total, gradient

    return loss(logits)


def _inside(frame_lengths, label_lengths, time, width):
    """bool ``[batch, time, labels + 1]``: cells within each row's own lattice."""
    frames = ops.arange(0, time, dtype="int32")[None, :, None] < frame_lengths[:, None, None]
    labels = ops.arange(0, width, dtype="int32")[None, None, :] <= label_lengths[:, None, None]
    return ops.logical_and(frames, labels)


def _skew(x):
    """``[batch, t, u]`` -> ``[t + u - 1, batch, u]``: anti-diagonals, the rest `IMPOSSIBLE`."""
    batch, time, width = ops.shape(x)
    label = ops.arange(0, width, dtype="int32")[None, :]
    frame = ops.arange(0, time + width - 1, dtype="int32")[:, None] - label
    exists = ops.logical_and(frame >= 0, frame < time)
    place = ops.reshape(ops.clip(frame, 0, time - 1) * width + label, (-1,))
    diagonals = ops.take(ops.reshape(x, (batch, time * width)), place, axis=1)
    diagonals = ops.reshape(diagonals, (batch, time + width - 1, width))
    return ops.transpose(ops.where(exists, diagonals, IMPOSSIBLE), (1, 0, 2))


def _diagonals(*lattices):
    """Skewed lattices as one tensor to scan: Keras' scan takes one where sizes are not static."""
    return ops.stack([_skew(lattice) for lattice in lattices], axis=1)


def _unskew(x, time):
    """The inverse of `_skew`: ``[t + u - 1, batch, u]`` -> ``[batch, t, u]``."""
    diagonals, batch, width = ops.shape(x)
    label = ops.arange(0, width, dtype="int32")[None, :]
    frame = ops.arange(0, time, dtype="int32")[:, None]
    place = ops.reshape((frame + label) * width + label, (-1,))
    flat = ops.reshape(ops.transpose(x, (1, 0, 2)), (batch, diagonals * width))
    return ops.reshape(ops.take(flat, place, axis=1), (batch, time, width))


def _shift(x, amount):
    """Labels one later (+1) or earlier (-1), along the last axis of ``[batch, u]``."""
    if amount > 0:
        return ops.pad(x[:, :-1], ((0, 0), (1, 0)), constant_values=IMPOSSIBLE)
    return ops.pad(x[:, 1:], ((0, 0), (0, 1)), constant_values=IMPOSSIBLE)


def _backward(stay, emit, ending):
    """log P(rest | cell), ``[batch, t, u]``."""
    time = ops.shape(stay)[1]
    moves = _diagonals(stay, emit, ending)
    nowhere = ops.full_like(moves[0, 0], IMPOSSIBLE)

    def step(after, moves):
        stay, emit, ending = moves[0], moves[1], moves[2]
        here = ops.logaddexp(ops.logaddexp(stay + after, emit + _shift(after, -1)), ending)
        here = ops.maximum(here, nowhere)
        return here, here

    return _unskew(ops.scan(step, nowhere, moves, reverse=True)[1], time)


def _forward(stay, emit):
    """log P(reaching the cell), ``[batch, t, u]``."""
    time, width = ops.shape(stay)[1:]
    moves = _diagonals(stay, emit)
    nowhere = ops.full_like(moves[0, 0], IMPOSSIBLE)
    start = ops.where(ops.arange(0, width, dtype="int32") == 0, ops.zeros_like(nowhere), nowhere)

    def step(here, moves):
        stay, emit = moves[0], moves[1]
        after = ops.logaddexp(here + stay, _shift(here + emit, 1))
        return ops.maximum(after, nowhere), here

    return _unskew(ops.scan(step, start, moves)[1], time)
