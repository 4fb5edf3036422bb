"""A pass: one recognition of a model, which reads the output of one of its encoders' stages."""

from typing import Any

from keras import ops

from asr_qat.layers.base import StreamingLayer
from asr_qat.losses.joint_rnnt import JointInputs


class Pass:
    """Stages of encoders, and the decoder that reads the last of them.

    Attributes:
        name: of the stage that is read.
        stages: encoders, each on the output of the one before; the first gets features.
        prediction: prediction network.
        joint: joint network.
        factor: feature frames in a frame that is read.
        delay: frames by which the streaming output lags behind.
        dim: width of the frames.
    """

    def __init__(self, name: str, stages: list[StreamingLayer], prediction: Any, joint: Any):
        self.name, self.stages = name, stages
        self.prediction, self.joint = prediction, joint
        self.delay, self.dim = stages[-1].delay, stages[-1].dim
        self.factor = 1
        for stage in stages:
            self.factor *= stage.factor

    def lengths(self, feature_lengths: Any) -> Any:
        """Frames of utterances of so many features."""
        return feature_lengths // self.factor

    def logits(self, encoded: Any, labels: Any, training: bool = False) -> Any:
        """Frames ``[batch, time, dim]``, labels ``[batch, u]`` -> ``[batch, time, u + 1, v]``."""
        predicted = self.prediction(labels, training=training)
        return self.joint(encoded, predicted, self.prediction.table)

    def joint_inputs(self, encoded: Any, labels: Any, training: bool = False) -> JointInputs:
        """What the logits are made of; arguments as `logits` has them."""
        predicted = self.prediction(labels, training=training)
        return self.joint.inputs(encoded, predicted, self.prediction.table)

    def joint_step(self, frame: Any, predicted: Any) -> Any:
        """A frame and a prediction, both ``[batch, dim]`` -> logits ``[batch, vocabulary]``."""
        return self.joint.step(frame, predicted, self.prediction.table)


def within(x: Any, lengths: Any) -> Any:
    """Frames ``[batch, time, dim]`` with zeros beyond each row's length.

    A stage that looks ahead gets zeros there, as it does at the end of a stream.
    """
    inside = ops.arange(0, ops.shape(x)[1], dtype="int32")[None, :] < lengths[:, None]
    return x * ops.cast(inside, x.dtype)[:, :, None]


def encode(
    stages: list[StreamingLayer], features: Any, feature_lengths: Any, training: bool = False
) -> list[Any]:
    """The output of every stage for whole utterances.

    Args:
        stages: the first gets the features, each other one the frames of the one before.
        features: ``[batch, time, bins]``.
        feature_lengths: int32 ``[batch]``.
        training: whether this is a training step.
    """
    x = stages[0](features, training=training)
    outputs, lengths = [x], feature_lengths // stages[0].factor
    for stage in stages[1:]:
        x = stage(within(x, lengths), training=training)
        lengths = lengths // stage.factor
        outputs.append(x)
    return outputs
