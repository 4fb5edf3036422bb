"""The joint network and its RNN-T loss behind one gradient, computed in slices.

A transducer's logits ``[batch, time, labels + 1, vocabulary]`` are what runs out of memory, and
moving them is what takes the time. Here they never exist at once: a slice of cells of the lattice
is scored, what the recursion needs of it is kept (two scores and a sum for each cell), and the
gradient computes the slice again. Cells outside a row's own lattice cost nothing, nor do, in the
gradient, those that alignments visit with a probability below float32's rounding: `NEVER`.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from asr_qat.backend import sees_a_gpu
from asr_qat.losses.distillation import Taught, divergence
from asr_qat.losses.distributions import Softmax
from asr_qat.losses.lattice import IMPOSSIBLE, Cells, align, move_probabilities
from asr_qat.losses.rnnt import check_widths, emit_weights
from asr_qat.losses.slices import Slices

Tensor = Any
SLICE_BYTES = 1 << 21  # logits of a slice: about what a core's cache holds
GPU_SLICE_BYTES = 1 << 28  # enough work for all of a GPU at once
NEVER = 2.0**-24  # half the distance from 1 to the next float32


class JointInputs(NamedTuple):
    """What the logits ``tanh(frames + labels) table^T + bias`` of a lattice are made of."""

    frames: Tensor  # float [batch, time, dim], projected
    labels: Tensor  # float [batch, labels + 1, dim], projected
    table: Tensor  # float [vocabulary, dim]
    bias: Tensor  # float [vocabulary]


def joint_rnnt_loss(
    inputs: JointInputs,
    labels: Tensor,
    frame_lengths: Tensor,
    label_lengths: Tensor,
    *,
    blank: int = 0,
    fast_emit: Tensor | float = 0.0,
    distribution: Any = None,
    forbidden: Tensor | None = None,
    among: Tensor | None = None,
    taught: Taught | None = None,
    slice_bytes: int | None = None,
) -> Tensor:
    """Negative log-probability of the labels, summed over all alignments; as `rnnt_loss`.

    Args:
        inputs: of the joint network.
        labels: int ``[batch, labels]``; entries beyond a row's length are ignored.
        frame_lengths: int ``[batch]``, at least 1; frames beyond are ignored.
        label_lengths: int ``[batch]``.
        blank: id of the blank label.
        fast_emit: see `rnnt_loss`.
        distribution: of `distributions`; `Softmax` by default.
        forbidden: int ``[batch, labels + 1]``, a label that cannot follow there; -1: none. None:
            there are no such.
        among: bool ``[batch, time, labels + 1]``, cells to which alignments are confined; see
            `pruned`.
        taught: the scores of a teacher, whose divergence is added; for `Softmax` alone. None: there
            is no teacher.
        slice_bytes: of the logits of a slice, or of what they are made from where that is wider;
            None: see `default_slice_bytes`.

    Returns:
        float ``[batch]``, in nats.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    check_widths(inputs.labels.shape[1], labels.shape[1], "the joint's labels")
    distribution = distribution or Softmax()
    if taught is not None and not isinstance(distribution, Softmax):
        raise ValueError(
            f"a teacher: received a joint whose distribution is {type(distribution).__name__}, "
            "expected Softmax"
        )
    lattice = _Lattice(inputs, labels, frame_lengths, label_lengths, among, slice_bytes)
    cells, most = lattice.cells, lattice.most
    batch, time, width = ops.shape(cells.inside)
    weights = emit_weights(fast_emit, lattice.labels, inputs.frames.dtype)

    @keras.ops.custom_gradient
    def loss(*parts):
        joint = _Joint(JointInputs(*parts), lattice.following, forbidden)
        kept = lattice.scores(joint, distribution, blank)
        stay, emit = (ops.reshape(kept[i], (batch, time, width)) for i in range(2))
        alignments = align(stay, emit, cells)
        value = -alignments.log_likelihood
        if taught is not None:
            visited = sum(move_probabilities(alignments.share, cells))
            taken = divergence(taught, stay, emit, visited, cells.emits)
            value = value + taken.value

        def gradient(*args, upstream=None):
            dy = (args[0] if upstream is None else upstream)[:, None, None]
            stays, emits = move_probabilities(alignments.share, cells)
            ever = stays + emits > NEVER
            emits = emits * weights[:, None]
            if taught is not None:
                stays, emits = stays + taken.stays, emits + taken.emits
            flat = [ops.reshape(x, (-1,)) for x in (stays * dy, emits * dy)]

            def differentiate(start, places, there, *sums):
                hidden, logits, labels = joint.at(places)
                stays, emits = (ops.where(there, ops.take(x, places), 0.0) for x in flat)
                norm = ops.take(kept[2], places)
                dlogits = distribution.gradient(logits, norm, labels, blank, stays, emits)
                return joint.add_gradients(sums, places, hidden, dlogits)

            sums = Slices(ever, most).loop(differentiate, *joint.no_gradients())
            return tuple(ops.reshape(x, ops.shape(p)) for x, p in zip(sums, parts, strict=True))

        return value, gradient

    # Copies: TensorFlow's custom gradients take tensors and no variables.
    return loss(*(ops.copy(x) for x in inputs))


def lattice_scores(
    inputs: JointInputs,
    labels: Tensor,
    frame_lengths: Tensor,
    label_lengths: Tensor,
    *,
    blank: int = 0,
    slice_bytes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """What a joint network says in each cell of the lattice, without a gradient.

    Args:
        inputs: of the joint network, a softmax over blank and all labels.
        labels: int ``[batch, labels]``.
        frame_lengths: int ``[batch]``.
        label_lengths: int ``[batch]``.
        blank: id of the blank label.
        slice_bytes: as in `joint_rnnt_loss`.

    Returns:
        Log-probabilities of blank and of the next label, each float ``[batch, time, labels + 1]``;
        0 outside of the row's lattice.
    """
    inputs = JointInputs(*(ops.stop_gradient(x) for x in inputs))
    lattice = _Lattice(inputs, labels, frame_lengths, label_lengths, None, slice_bytes)
    kept = lattice.scores(_Joint(inputs, lattice.following, None), Softmax(), blank)
    shape = ops.shape(lattice.cells.inside)
    return ops.reshape(kept[0], shape), ops.reshape(kept[1], shape)


def default_slice_bytes() -> int:
    """`SLICE_BYTES`, on a GPU `GPU_SLICE_BYTES`."""
    return GPU_SLICE_BYTES if sees_a_gpu() else SLICE_BYTES


class _Lattice:
    """The cells of a batch, and what is scored slice by slice."""

    def __init__(self, inputs, labels, frame_lengths, label_lengths, among, slice_bytes):
        self.labels, frame_lengths, label_lengths = (
            ops.cast(v, "int32") for v in (labels, frame_lengths, label_lengths)
        )
        time, width = ops.shape(inputs.frames)[1], ops.shape(inputs.labels)[1]
        slice_bytes = slice_bytes or default_slice_bytes()
        self.most = max(1, slice_bytes // (4 * max(inputs.table.shape)))
        self.cells = Cells.of(frame_lengths, label_lengths, time, width, among)
        self.following = ops.pad(self.labels, ((0, 0), (0, 1)))
        self.dtype = inputs.frames.dtype

    def scores(self, joint, distribution, blank):
        """`Scores` of every cell, float ``[3, batch * time * width]``; 0 outside."""
        every = Slices(self.cells.inside, self.most)

        def score(start, places, there, kept):
            _, logits, labels = joint.at(places)
            scores = distribution.scores(logits, labels, blank)
            return (ops.slice_update(kept, (0, start), ops.stack(scores)),)

        kept = ops.zeros((3, every.size + every.rows), dtype=self.dtype)
        return every.spread(every.loop(score, kept)[0])


class _Joint:
    """The joint network at some cells of the lattice."""

    def __init__(self, inputs: JointInputs, following: Tensor, forbidden: Tensor | None):
        self.inputs = inputs
        self.time, self.width = ops.shape(inputs.frames)[1], ops.shape(inputs.labels)[1]
        self.frames = ops.reshape(inputs.frames, (-1, inputs.frames.shape[-1]))
        self.labels = ops.reshape(inputs.labels, (-1, inputs.labels.shape[-1]))
        self.following = ops.reshape(following, (-1,))
        self.forbidden = None if forbidden is None else ops.reshape(forbidden, (-1,))

    def rows(self, places):
        """Of cells, given by their places in the lattice: the rows of frames and of labels."""
        frame = places // self.width
        return frame, frame // self.time * self.width + places % self.width

    def at(self, places):
        """Hidden ``[cells, dim]``, logits ``[cells, vocabulary]``, next labels ``[cells]``."""
        frame, label = self.rows(places)
        hidden = ops.tanh(
            ops.take(self.frames, frame, axis=0) + ops.take(self.labels, label, axis=0)
        )
        logits = ops.matmul(hidden, ops.transpose(self.inputs.table)) + self.inputs.bias
        if self.forbidden is not None:
            columns = ops.arange(0, logits.shape[-1], dtype="int32")
            banned = ops.equal(columns, ops.take(self.forbidden, label)[:, None])
            logits = ops.where(banned, IMPOSSIBLE, logits)
        return hidden, logits, ops.take(self.following, label)

    def no_gradients(self):
        """Zeros, one for each of the inputs."""
        table, bias = self.inputs.table, self.inputs.bias
        return tuple(ops.zeros_like(x) for x in (self.frames, self.labels, table, bias))

    def add_gradients(self, sums, places, hidden, dlogits):
        """Adds what comes of the logits' gradient ``[cells, vocabulary]``."""
        frame, label = self.rows(places)
        inward = ops.matmul(dlogits, self.inputs.table) * (1.0 - hidden * hidden)
        return (
            sums[0] + ops.segment_sum(inward, frame, num_segments=ops.shape(self.frames)[0]),
            sums[1] + ops.segment_sum(inward, label, num_segments=ops.shape(self.labels)[0]),
            sums[2] + ops.matmul(ops.transpose(dlogits), hidden),
            sums[3] + ops.sum(dlogits, axis=0),
        )
