"""How a model with several passes is trained: one of them a step, or all of them (2010.14606)."""

from collections.abc import Sequence

import keras
from keras import ops

from asr_qat.losses.joint_rnnt import JointInputs
from asr_qat.models.passes import Pass


class RandomPath:
    """One pass a step, drawn evenly: half the joint networks and losses of `SummedPaths`.

    All encoders are computed, because XLA cannot leave one out (a `switch` with our gradients in
    it aborts the process); those after the drawn pass get a gradient of zero.

    Args:
        passes: all of one rate, because a step is compiled for any of them.
        seeds: of the draws.

    Raises:
        ValueError: if their rates differ.
    """

    def __init__(self, passes: Sequence[Pass], seeds: keras.random.SeedGenerator):
        factors = {p.name: p.factor for p in passes}
        if len(set(factors.values())) > 1:
            raise ValueError(
                "path_training 'random' needs passes of one rate; received feature frames a frame "
                f"of {factors}; expected 'summed' for these"
            )
        self.passes, self.seeds = list(passes), seeds

    def joint_inputs(self, outputs, labels) -> list[JointInputs]:
        """What the logits of the drawn pass are made of, as a list of one.

        Args:
            outputs: of every stage, ``[batch, time, dim]``.
            labels: int32 ``[batch, u]``.
        """
        frames = [outputs[len(one.stages) - 1] for one in self.passes]
        drawn = keras.random.randint((), 0, len(frames), seed=self.seeds)
        if len({one.joint.name for one in self.passes}) == 1:
            frames = _chosen(frames, drawn)
            return [self.passes[0].joint_inputs(frames, labels, training=True)]
        each = [
            one.joint_inputs(x, labels, training=True)
            for one, x in zip(self.passes, frames, strict=True)
        ]
        return [JointInputs(*(_chosen(parts, drawn) for parts in zip(*each, strict=True)))]


def _chosen(tensors, number):
    """The tensor of that number, all of one shape."""
    result = tensors[0]
    for i, tensor in enumerate(tensors[1:], start=1):
        result = ops.where(ops.equal(number, i), tensor, result)
    return result


class SummedPaths:
    """All passes in every step; the loss is their mean."""

    def __init__(self, passes: Sequence[Pass], seeds: keras.random.SeedGenerator):
        self.passes = list(passes)

    def joint_inputs(self, outputs, labels) -> list[JointInputs]:
        """Of every pass; arguments as `RandomPath.joint_inputs` has them."""
        return [
            one.joint_inputs(outputs[len(one.stages) - 1], labels, training=True)
            for one in self.passes
        ]


PATHS: dict[str, type] = {"random": RandomPath, "summed": SummedPaths}
