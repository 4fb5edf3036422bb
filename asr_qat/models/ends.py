"""What hears where speech ends. It learns beside the recogniser and teaches it nothing.

The endpointer says of every frame whether it is speech, or which silence (2208.13916). An end
joint is a second joint network with one symbol more, for the end of the utterance (EOU,
2208.13916) or of a segment of it (EOS, 2204.10749, 2211.15432): it gets the frames and the
predictions of a pass, and which end it hears is in the labels that it learns from.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from typing import Any

from keras import ops

from asr_qat.data.ends import FRAME_CLASSES, EndLabels, FrameClasses
from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.endpointer import Endpointer
from asr_qat.layers.joint import UntiedJoint
from asr_qat.losses.joint_rnnt import joint_rnnt_loss
from asr_qat.models.configs import EndJointConfig, EndpointerConfig
from asr_qat.models.passes import Pass


class EndpointerHead:
    """An endpointer on the frames of one stage; a batch needs ``frame_classes``.

    Args:
        config: sizes.
        stages: encoders up to the one that it hears.
        hop_samples: samples of a feature frame.
        precision: a recipe's name or a `Policy`.

    Attributes:
        layer: its weights.
        fields: what a batch needs for it.
    """

    fields = ("frame_classes",)

    def __init__(
        self,
        config: EndpointerConfig,
        stages: Sequence[StreamingLayer],
        hop_samples: int,
        precision: Any,
    ):
        self.config, self.name, self.stages = config, config.name, list(stages)
        self.frame_samples = hop_samples * math.prod(stage.factor for stage in stages)
        self.layer = Endpointer(len(FRAME_CLASSES), config.hidden, precision, name=config.name)

    def build(self) -> None:
        """Makes the weights."""
        self.layer.build((None, None, self.stages[-1].dim))

    def target(self) -> FrameClasses:
        """What makes the field, for `data.pipeline.make_dataset`."""
        return FrameClasses(frame_samples=self.frame_samples)

    def loss(self, inputs: Mapping[str, Any], outputs: Sequence[Any], feature_lengths: Any) -> Any:
        """Weighted cross entropy of a batch, in nats a frame.

        Args:
            inputs: the batch.
            outputs: of every stage, ``[batch, time, dim]``.
            feature_lengths: int32 ``[batch]``.
        """
        frames = ops.stop_gradient(outputs[len(self.stages) - 1])
        logits = self.layer(frames, training=True)
        return self.config.weight * frame_loss(logits, inputs["frame_classes"])


class EndJointHead:
    """An end joint on one pass; a batch needs ``<name>_labels`` and ``<name>_label_length``.

    The labels are the ordinary ones with the symbol of the end among them, which does not advance
    the prediction network.

    Args:
        config: sizes.
        one: the pass.
        symbol: of the end, one more than the largest label.
        precision: a recipe's name or a `Policy`.

    Attributes:
        layer: its weights.
        fields: what a batch needs for it.
    """

    def __init__(self, config: EndJointConfig, one: Pass, symbol: int, precision: Any):
        self.config, self.name, self.read, self.symbol = config, config.name, one, symbol
        self.fields = (f"{config.name}_labels", f"{config.name}_label_length")
        self.layer = UntiedJoint(config.dim, symbol + 1, precision, name=config.name)

    def build(self) -> None:
        """Makes the weights; the pass is built."""
        self.layer.build((None, None, self.read.dim), (None, None, self.read.prediction.dim))

    def target(self) -> EndLabels:
        """What makes the fields, for `data.pipeline.make_dataset`."""
        of_segments = self.config.marks == "segment"
        return EndLabels(name=self.name, symbol=self.symbol, of_segments=of_segments)

    def logits(self, encoded: Any, predicted: Any) -> Any:
        """A frame and a prediction, both ``[batch, dim]`` -> ``[batch, vocabulary + 1]``."""
        return self.layer.step(encoded, predicted, self.read.prediction.table)

    def loss(self, inputs: Mapping[str, Any], outputs: Sequence[Any], feature_lengths: Any) -> Any:
        """Weighted RNN-T loss, in nats an utterance; see `EndpointerHead.loss`."""
        labels, lengths = (inputs[field] for field in self.fields)
        predicted = self.read.prediction(inputs["labels"], training=True)
        joint = self.layer.inputs(
            ops.stop_gradient(outputs[len(self.read.stages) - 1]),
            before_each(ops.stop_gradient(predicted), labels, self.symbol),
            self.read.prediction.table,
        )
        is_end = ops.equal(labels, self.symbol)
        losses = joint_rnnt_loss(
            joint,
            labels,
            self.read.lengths(feature_lengths),
            lengths,
            fast_emit=self.config.fast_emit * ops.cast(is_end, joint.frames.dtype),
            forbidden=no_second_end(labels, self.symbol),
        )
        return self.config.weight * ops.mean(losses)


def frame_loss(logits: Any, classes: Any) -> Any:
    """Mean cross entropy of frames, in nats.

    Args:
        logits: ``[batch, time, classes]``.
        classes: int ``[batch, time]``; negative: not counted.
    """
    chosen = ops.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    total = -ops.sum(ops.log_softmax(logits, axis=-1) * chosen)
    return total / ops.maximum(ops.sum(chosen), 1.0)


def before_each(predicted: Any, labels: Any, symbol: int) -> Any:
    """The predictions before each of some labels, with ends among them, and after the last.

    Args:
        predicted: ``[batch, u + 1, dim]``, after so many ordinary labels.
        labels: int ``[batch, n]``: ordinary ones, ends, and 0 beyond the length.
        symbol: of the end.

    Returns:
        ``[batch, n + 1, dim]``
    """
    ordinary = ops.logical_and(labels > 0, labels < symbol)
    counts = ops.cumsum(ops.cast(ordinary, "int32"), axis=1)
    counts = ops.pad(counts, ((0, 0), (1, 0)))
    return ops.take_along_axis(predicted, counts[:, :, None], axis=1)


def no_second_end(labels: Any, symbol: int) -> Any:
    """What cannot follow each of some labels: after an end, another before the next label.

    The joint cannot know that it was: its inputs are those before the end. Left to itself it would
    learn to emit the one end of N silent frames with a probability of 1 / N in each of them.

    Args:
        labels: int ``[batch, n]``.
        symbol: of the end.

    Returns:
        int32 ``[batch, n + 1]``: the symbol where the label before is an end, else -1.
    """
    forbidden = ops.where(ops.equal(labels, symbol), symbol, -1)
    return ops.cast(ops.pad(forbidden, ((0, 0), (1, 0)), constant_values=-1), "int32")


@singledispatch
def make_end(config, stages, passes, symbol: int, hop_samples: int, precision):
    """The head of a configuration, not built.

    Args:
        config: of `models.configs.EndConfig`.
        stages: the model's encoders.
        passes: the model's.
        symbol: of an end among labels.
        hop_samples: samples of a feature frame.
        precision: a recipe's name or a `Policy`.
    """
    raise ValueError(f"no end for a {type(config).__name__}")


@make_end.register
def _(config: EndpointerConfig, stages, passes, symbol, hop_samples, precision):
    names = [stage.name.removeprefix("encoder_") for stage in stages]
    heard = stages[: names.index(config.stage) + 1]
    return EndpointerHead(config, heard, hop_samples, precision)


@make_end.register
def _(config: EndJointConfig, stages, passes, symbol, hop_samples, precision):
    one = next(one for one in passes if one.name == config.reads)
    return EndJointHead(config, one, symbol, precision)


def require_fields(ends: Iterable[Any], inputs: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a training batch without what the ends learn from."""
    missing = [field for end in ends for field in end.fields if field not in inputs]
    if missing:
        raise ValueError(
            f"a training batch of a model with ends lacks {', '.join(missing)}; received "
            f"{', '.join(inputs)}. Datasets have them by make_dataset(..., ends=[end.target() for "
            "end in model.ends])"
        )
