"""Pruned RNN-T: a cheap loss finds the few labels that matter in each frame (2206.13236).

An additive joint, whose logits are ``frames + labels`` without a hidden layer between, has a loss
that needs no logits at once: the sum over the vocabulary is a product of matrices. Where its
alignments go is where the real joint is computed: `joint_rnnt_loss` with ``among``.
"""

from typing import Any

import keras
from keras import ops

from asr_qat.losses.lattice import Cells, align, move_probabilities

Tensor = Any


def additive_rnnt_loss(
    frames: Tensor,
    predictions: Tensor,
    labels: Tensor,
    frame_lengths: Tensor,
    label_lengths: Tensor,
    blank: int = 0,
) -> tuple[Tensor, Tensor]:
    """RNN-T loss of the logits ``frames[:, :, None] + predictions[:, None]``.

    Args:
        frames: float ``[batch, time, vocabulary]``.
        predictions: float ``[batch, labels + 1, vocabulary]``.
        labels: int ``[batch, labels]``.
        frame_lengths: int ``[batch]``.
        label_lengths: int ``[batch]``.
        blank: id of the blank label.

    Returns:
        The loss, float ``[batch]``, in nats; and the probability with which alignments visit each
        cell, float ``[batch, time, labels + 1]``, without a gradient.
    """
    labels, frame_lengths, label_lengths = (
        ops.cast(v, "int32") for v in (labels, frame_lengths, label_lengths)
    )
    tops = [ops.stop_gradient(ops.max(x, -1, keepdims=True)) for x in (frames, predictions)]
    parts = [ops.exp(x - top) for x, top in zip((frames, predictions), tops, strict=True)]
    total = ops.matmul(parts[0], ops.transpose(parts[1], (0, 2, 1)))
    norm = ops.log(total + 1e-30) + tops[0] + ops.transpose(tops[1], (0, 2, 1))
    following = ops.pad(labels, ((0, 0), (0, 1)))
    of_frames = ops.take_along_axis(frames, following[:, None, :], axis=2)
    of_labels = ops.take_along_axis(predictions, following[:, :, None], axis=2)
    emit = of_frames + ops.transpose(of_labels, (0, 2, 1)) - norm
    stay = frames[:, :, blank, None] + predictions[:, None, :, blank] - norm
    time, width = ops.shape(stay)[1:]
    cells = Cells.of(frame_lengths, label_lengths, time, width)
    loss = lattice_loss(stay, emit, cells)
    share = align(ops.stop_gradient(stay), ops.stop_gradient(emit), cells).share
    stays, emits = move_probabilities(share, cells)
    return loss, ops.stop_gradient(stays + emits)


def lattice_loss(stay: Tensor, emit: Tensor, cells: Cells) -> Tensor:
    """Negative log-probability of all alignments, ``[batch]``; arguments as `align` has them."""

    @keras.ops.custom_gradient
    def loss(stay, emit):
        alignments = align(stay, emit, cells)

        def gradient(*args, upstream=None):
            dy = (args[0] if upstream is None else upstream)[:, None, None]
            stays, emits = move_probabilities(alignments.share, cells)
            return -stays * dy, -emits * dy

        return -alignments.log_likelihood, gradient

    return loss(stay, emit)


def pruned_cells(
    visited: Tensor, frame_lengths: Tensor, label_lengths: Tensor, kept: int
) -> Tensor:
    """The cells of the ``kept`` neighbouring labels that alignments visit most, frame by frame.

    The first label of a frame's is at least that of the frame before and at most ``kept - 1``
    more, so that an alignment can always go on (2206.13236, eq. 18).

    Args:
        visited: float ``[batch, time, labels + 1]``, probabilities.
        frame_lengths: int ``[batch]``.
        label_lengths: int ``[batch]``.
        kept: labels of a frame, at least 2.

    Returns:
        bool ``[batch, time, labels + 1]``
    """
    time, width = ops.shape(visited)[1:]
    frame = ops.arange(0, time, dtype="int32")[None, :]
    label = ops.arange(0, width, dtype="int32")
    step = kept - 1
    last_first = ops.maximum(ops.cast(label_lengths, "int32")[:, None] - step, 0)
    # Windows as sums of differences: P(labels before the window's end) - P(before its start).
    before = ops.pad(ops.cumsum(visited, axis=2), ((0, 0), (0, 0), (1, 0)))
    ends = ops.minimum(label + kept, width)
    inside = ops.take(before, ends, axis=2) - before[:, :, :-1]
    first = ops.cast(ops.argmax(inside, axis=2), "int32")
    first = ops.minimum(ops.minimum(first, last_first), step * frame)
    at_end = frame >= ops.cast(frame_lengths, "int32")[:, None] - 1
    first = ops.where(at_end, last_first, first)
    first = _running_max(first, reverse=False)
    first = _running_max(first - step * frame, reverse=True) + step * frame
    first = first[:, :, None]
    return ops.logical_and(label >= first, label < first + kept)


def _running_max(x, reverse):
    """Of int32 ``[batch, time]``, along time."""

    def step(top, x):
        top = ops.maximum(top, x)
        return top, top

    columns = ops.transpose(x)
    least = ops.full_like(columns[0], -(2**30))
    return ops.transpose(ops.scan(step, least, columns, reverse=reverse)[1])
