"""Parts that only training needs: they help the recogniser learn and are in no exported file."""

import keras
from keras import ops

from asr_qat.losses.joint_rnnt import JointInputs
from asr_qat.losses.pruned import additive_rnnt_loss, pruned_cells


@keras.saving.register_keras_serializable("asr_qat")
class CtcHead(keras.layers.Layer):
    """Labels from frames alone, by CTC (Graves 2006): draws an encoder towards alignments early.

    Args:
        vocabulary_size: labels, blank (0) included.
    """

    def __init__(self, vocabulary_size, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.output_layer = keras.layers.Dense(vocabulary_size, name="output")

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        self.output_layer.build(input_shape)

    def call(self, frames):
        """``[batch, time, dim]`` -> logits ``[batch, time, vocabulary]``."""
        return self.output_layer(frames)

    def loss(self, frames, labels, frame_lengths, label_lengths):
        """Negative log-probability of the labels, ``[batch]``, in nats.

        A row with more labels (and repetitions) than frames has no alignment in CTC: it counts
        nothing.
        """
        losses = ops.ctc_loss(labels, self(frames), label_lengths, frame_lengths, mask_index=0)
        repeated = ops.logical_and(labels[:, 1:] > 0, ops.equal(labels[:, 1:], labels[:, :-1]))
        needed = label_lengths + ops.sum(ops.cast(repeated, "int32"), axis=1)
        return ops.where(needed <= frame_lengths, losses, 0.0)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "vocabulary_size": self.vocabulary_size}


@keras.saving.register_keras_serializable("asr_qat")
class AdditiveJoint(keras.layers.Layer):
    """Finds the labels of each frame that the real joint is computed for (2206.13236).

    Args:
        vocabulary_size: labels, blank included.
        kept: labels of a frame.
    """

    def __init__(self, vocabulary_size, kept, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size, self.kept = vocabulary_size, kept
        self.from_frames = keras.layers.Dense(vocabulary_size, name="from_frames")
        self.from_labels = keras.layers.Dense(vocabulary_size, use_bias=False, name="from_labels")

    def build(self, input_shape):
        """``[..., dim]``, that of the joint."""
        self.from_frames.build(input_shape)
        self.from_labels.build(input_shape)

    def call(self, joint: JointInputs, labels, frame_lengths, label_lengths):
        """The loss of the additive joint ``[batch]``, and the cells to keep of the real one's.

        It reads what the real joint reads, and so teaches the projections, too.
        """
        losses, visited = additive_rnnt_loss(
            self.from_frames(joint.frames),
            self.from_labels(joint.labels),
            labels,
            frame_lengths,
            label_lengths,
        )
        return losses, pruned_cells(visited, frame_lengths, label_lengths, self.kept)

    def get_config(self):
        """The constructor's arguments."""
        sizes = {"vocabulary_size": self.vocabulary_size, "kept": self.kept}
        return {**super().get_config(), **sizes}
