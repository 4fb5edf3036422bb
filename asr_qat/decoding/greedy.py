"""Greedy transducer search over a batch, compiled: the likeliest label at every step."""

from collections.abc import Callable
from typing import Any

from keras import ops

Tensor = Any


def greedy_search(
    encoded: Tensor,
    lengths: Tensor,
    predict: Callable[[Tensor, dict], tuple[Tensor, dict]],
    joint: Callable[[Tensor, Tensor], Tensor],
    initial_state: dict,
    max_labels: int,
    max_symbols_per_frame: int,
) -> tuple[Tensor, Tensor]:
    """The labels of a batch of utterances.

    Args:
        encoded: ``[batch, time, dim]``.
        lengths: int32 ``[batch]``, frames of each utterance.
        predict: label int32 ``[batch]``, state -> prediction ``[batch, dim]``, state.
        joint: frame ``[batch, dim]``, prediction -> logits ``[batch, vocabulary]``.
        initial_state: of the prediction network, for ``batch`` rows.
        max_labels: labels kept for an utterance, at most.
        max_symbols_per_frame: labels emitted in one frame, at most.

    Returns:
        Labels int32 ``[batch, max_labels]``, 0 beyond the end; their counts int32 ``[batch]``.
    """
    batch, time, _ = encoded.shape
    none = ops.zeros((batch,), dtype="int32")
    predicted, state = predict(none, initial_state)
    start = (none, none, none, ops.zeros((batch, max_labels), dtype="int32"), predicted, state)

    def unfinished(frame, _in_frame, _count, _labels, _predicted, _state):
        return ops.any(frame < lengths)

    def advance(frame, in_frame, count, labels, predicted, state):
        here = ops.take_along_axis(encoded, ops.minimum(frame, time - 1)[:, None, None], axis=1)[
            :, 0
        ]
        best = ops.cast(ops.argmax(joint(here, predicted), axis=-1), "int32")
        emits = ops.logical_and(best > 0, frame < lengths)
        emits = ops.logical_and(emits, count < max_labels)
        place = ops.logical_and(ops.arange(max_labels)[None, :] == count[:, None], emits[:, None])
        labels = ops.where(place, best[:, None], labels)
        count = count + ops.cast(emits, "int32")
        in_frame = ops.where(emits, in_frame + 1, 0)
        full = in_frame >= max_symbols_per_frame
        in_frame = ops.where(full, 0, in_frame)
        moves = ops.logical_or(ops.logical_not(emits), full)
        frame = frame + ops.cast(moves, "int32")
        next_predicted, next_state = predict(best, state)
        predicted = ops.where(emits[:, None], next_predicted, predicted)
        state = {k: ops.where(emits[:, None], next_state[k], state[k]) for k in state}
        return frame, in_frame, count, labels, predicted, state

    _, _, count, labels, _, _ = ops.while_loop(
        unfinished, advance, start, maximum_iterations=time + max_labels
    )
    return labels, count
