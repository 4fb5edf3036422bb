"""Greedy transducer search over a batch, compiled: the likeliest label at every step."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Tensor = Any


def likeliest(logits: Tensor) -> Tensor:
    """The first label of the largest logit, ``[batch, vocabulary]`` -> int32 ``[batch]``.

    (Keras' ``argmax`` tells -0 from 0 with operators that TFLite does not have.)
    """
    count = logits.shape[-1]
    largest = ops.max(logits, axis=-1, keepdims=True)
    return ops.min(
        ops.where(logits >= largest, ops.arange(count, dtype="int32"), count - 1), axis=-1
    )


def greedy_search(
    encoded: Tensor,
    lengths: Tensor,
    predict: Callable[[Tensor, dict], tuple[Tensor, dict]],
    joint: Callable[[Tensor, Tensor], Tensor],
    label: Tensor,
    state: dict,
    max_labels: int,
    max_symbols_per_frame: int,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, dict]:
    """The labels of a batch of utterances, or of their next chunks.

    Args:
        encoded: ``[batch, time, dim]``.
        lengths: int32 ``[batch]``, frames of each utterance.
        predict: label int32 ``[batch]``, state -> prediction ``[batch, dim]``, state.
        joint: frame ``[batch, dim]``, prediction -> logits ``[batch, vocabulary]``.
        label: int32 ``[batch]``, the last label before; 0 at the start of an utterance.
        state: of the prediction network before that label, nested; zeros at the start. Its
            tensors have the batch as their first axis.
        max_labels: labels kept for an utterance, at most.
        max_symbols_per_frame: labels emitted in one frame, at most.
        start: int32 ``[batch]``, the first frame that is searched; None: 0.

    Returns:
        Labels int32 ``[batch, max_labels]``, 0 beyond the end; their counts int32 ``[batch]``;
        ``label`` and ``state`` for the next chunk.
    """
    batch, time, _ = encoded.shape
    none = ops.zeros((batch,), dtype="int32")
    first = none if start is None else start
    begin = (first, none, none, ops.zeros((batch, max_labels), dtype="int32"), label, state)

    def unfinished(frame, _in_frame, _count, _labels, _label, _state):
        return ops.any(frame < lengths)

    def advance(frame, in_frame, count, labels, label, state):
        here = ops.expand_dims(ops.minimum(frame, time - 1), (1, 2))
        here = ops.squeeze(ops.take_along_axis(encoded, here, axis=1), 1)
        predicted, after = predict(label, state)
        best = likeliest(joint(here, predicted))
        emits = ops.logical_and(best > 0, frame < lengths)
        emits = ops.logical_and(emits, count < max_labels)
        emitted = ops.expand_dims(emits, 1)
        last = ops.equal(ops.arange(max_labels, dtype="int32"), ops.expand_dims(count, 1))
        labels = ops.where(ops.logical_and(last, emitted), ops.expand_dims(best, 1), labels)
        count = count + ops.cast(emits, "int32")
        in_frame = ops.where(emits, in_frame + 1, 0)
        full = in_frame >= max_symbols_per_frame
        in_frame = ops.where(full, 0, in_frame)
        moves = ops.logical_or(ops.logical_not(emits), full)
        frame = frame + ops.cast(moves, "int32")
        label = ops.where(emits, best, label)
        state = keras.tree.map_structure(
            lambda new, old: ops.where(_like(emits, new), new, old), after, state
        )
        return frame, in_frame, count, labels, label, state

    _, _, count, labels, label, state = ops.while_loop(
        unfinished, advance, begin, maximum_iterations=time + max_labels
    )
    return labels, count, label, state


def _like(rows, x):
    """``[batch]`` -> ``[batch, 1, ...]``, with as many axes as x."""
    return ops.reshape(rows, (-1, *[1] * (len(x.shape) - 1)))
