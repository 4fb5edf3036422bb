"""The lattice of a transducer: every way to put a row's labels into its frames (1211.3711).

A cell ``(t, u)`` is frame t with u labels said. From it an alignment either stays (blank: to
``(t + 1, u)``) or emits the next label (to ``(t, u + 1)``); it ends with a blank in the row's last
cell. All cells of an anti-diagonal ``t + u`` are independent, so both recursions take
``time + labels`` steps of vector arithmetic, whatever the backend.

The backward recursion keeps each anti-diagonal relative to its own largest value, and the forward
one works with probabilities of moves, so that long utterances lose no precision: the scores of a
thousand moves are never subtracted from each other.
"""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

Tensor = Any
IMPOSSIBLE = -1e30  # the logarithm of a probability of nothing


class Cells(NamedTuple):
    """Which cells of the lattices of a batch there are, each bool ``[batch, time, labels + 1]``."""

    inside: Tensor  # of the row's own lattice
    stays: Tensor  # a blank leads to another one
    emits: Tensor  # a label leads to another one
    last: Tensor  # the one where the row ends

    @classmethod
    def of(cls, frame_lengths, label_lengths, time, width, among=None) -> "Cells":
        """Those of rows of so many frames and labels.

        Args:
            frame_lengths: int32 ``[batch]``.
            label_lengths: int32 ``[batch]``.
            time: size of the lattice's first axis.
            width: of its second, labels + 1.
            among: bool ``[batch, time, labels + 1]``, cells to which alignments are confined, or
                None.
        """
        frame = ops.arange(0, time, dtype="int32")[None, :, None]
        label = ops.arange(0, width, dtype="int32")[None, None, :]
        frames, labels = frame_lengths[:, None, None], label_lengths[:, None, None]
        inside = ops.logical_and(frame < frames, label <= labels)
        if among is not None:
            inside = ops.logical_and(inside, among)
        later = ops.pad(inside[:, 1:], ((0, 0), (0, 1), (0, 0)), constant_values=False)
        longer = ops.pad(inside[:, :, 1:], ((0, 0), (0, 0), (0, 1)), constant_values=False)
        return cls(
            inside=inside,
            stays=ops.logical_and(inside, later),
            emits=ops.logical_and(inside, longer),
            last=ops.logical_and(inside, ops.logical_and(frame == frames - 1, label == labels)),
        )


class Alignments(NamedTuple):
    """All alignments of a batch."""

    log_likelihood: Tensor  # float [batch], nats
    share: Tensor  # float [time + labels, batch, labels + 1]: P(emits | is in the cell), skewed


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


def align(stay: Tensor, emit: Tensor, cells: Cells) -> Alignments:
    """The backward recursion (Graves 2012, eq. 18).

    Args:
        stay: float ``[batch, time, labels + 1]``, log-probabilities of blank.
        emit: the same, of the next label.
        cells: others are ignored.
    """
    moves = ops.stack(
        [
            _skew(ops.where(cells.stays, stay, IMPOSSIBLE)),
            _skew(ops.where(cells.emits, emit, IMPOSSIBLE)),
            _skew(ops.where(cells.last, stay, IMPOSSIBLE)),
        ],
        axis=1,
    )  # one tensor to scan: Keras' scan takes no more where sizes are not static
    nowhere = ops.full_like(moves[0, 0], IMPOSSIBLE)

    def step(carry, moves):
        after, _ = carry
        stays = ops.logaddexp(moves[0] + after, moves[2])
        emits = moves[1] + _one_label_more(after)
        here = ops.logaddexp(stays, emits)
        top = ops.max(here, axis=-1, keepdims=True)
        top = ops.where(top > IMPOSSIBLE / 2, top, ops.zeros_like(top))
        here = ops.maximum(here - top, nowhere)
        return (here, top), (ops.sigmoid(emits - stays), top)

    (first, _), (share, tops) = ops.scan(step, (nowhere, nowhere[:, :1]), moves, reverse=True)
    return Alignments(first[:, 0] + ops.sum(tops[:, :, 0], axis=0), share)


def move_probabilities(share: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Probabilities that an alignment stays in, and emits from, each cell, given the labels.

    Args:
        share: of `Alignments`.
        cells: those that `align` was given.

    Returns:
        Two of float ``[batch, time, labels + 1]``; together they sum to 1 on an anti-diagonal.
    """
    first = ops.equal(ops.arange(0, ops.shape(share)[2], dtype="int32"), 0)
    start = ops.zeros_like(share[0]) + ops.cast(first, share.dtype)

    def step(here, share):
        emits = here * share
        stays = here - emits
        return stays + ops.pad(emits[:, :-1], ((0, 0), (1, 0))), here

    time = ops.shape(cells.inside)[1]
    visited = _unskew(ops.scan(step, start, share)[1], time)
    # What stays in a row's last cell goes on from there, and is no alignment's any more.
    visited = ops.where(cells.inside, visited, 0.0)
    emits = visited * _unskew(share, time)
    return visited - emits, emits


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


def _unskew(x, time):
    """The inverse of `_skew`: ``[t + u - 1, batch, u]`` -> ``[batch, t, u]``."""
    diagonals, batch, width = ops.shape(x)
    label = ops.arange(0, width, dtype="int32")[None, :]
    frame = ops.arange(0, time, dtype="int32")[:, None]
    place = ops.reshape((frame + label) * width + label, (-1,))
    flat = ops.reshape(ops.transpose(x, (1, 0, 2)), (batch, diagonals * width))
    return ops.reshape(ops.take(flat, place, axis=1), (batch, time, width))


def _one_label_more(x):
    """What the cells to the right hold, along the last axis of ``[batch, u]``."""
    return ops.pad(x[:, 1:], ((0, 0), (0, 1)), constant_values=IMPOSSIBLE)
