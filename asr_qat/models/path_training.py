"""How a model with several passes is trained: one of them a step, or all of them (2010.14606)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

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

    def logits(self, outputs, labels) -> list[Any]:
        """The logits of the drawn pass, ``[batch, time, u + 1, vocabulary]``, as a list of one.

        Args:
            outputs: of every stage, ``[batch, time, dim]``.
            labels: int32 ``[batch, u]``.
        """
        frames = [outputs[len(one.stages) - 1] for one in self.passes]
        drawn = keras.random.randint((), 0, len(frames), seed=self.seeds)
        if len({one.joint.name for one in self.passes}) == 1:
            return [self.passes[0].logits(_chosen(frames, drawn), labels, training=True)]
        scored = [
            one.logits(x, labels, training=True) for one, x in zip(self.passes, frames, strict=True)
        ]
        return [_chosen(scored, drawn)]


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

    def logits(self, outputs, labels) -> list[Any]:
        """The logits of every pass; arguments as `RandomPath.logits` has them."""
        return [
            one.logits(outputs[len(one.stages) - 1], labels, training=True) for one in self.passes
        ]


PATHS: dict[str, type] = {"random": RandomPath, "summed": SummedPaths}
