"""The functions of the exported file: front end, encoder chunk, prediction step, joint.

Every state is a named input ``x`` and a named output ``next_x``; all are zero at the start.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from asr_qat.models.transducer import Transducer


@dataclasses.dataclass(frozen=True)
class Signature:
    """One function of the file.

    Attributes:
        name: the signature's key.
        function: takes and returns tensors by name.
        inputs: shape and type of each input, by name.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    inputs: dict[str, tf.TensorSpec]


def flatten(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """A nested state as one dictionary; names are joined by underscores."""
    flat: dict[str, Any] = {}
    for name, value in state.items():
        joined = f"{prefix}_{name}"
        flat.update(flatten(value, joined) if isinstance(value, dict) else {joined: value})
    return flat


def unflatten(flat: dict[str, Any], like: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The inverse of `flatten`, for a state nested as ``like``."""
    return {
        name: unflatten(flat, value, f"{prefix}_{name}")
        if isinstance(value, dict)
        else flat[f"{prefix}_{name}"]
        for name, value in like.items()
    }


def _streaming(name, step, argument, spec, result, initial) -> Signature:
    """A signature around ``step(x, state) -> (y, state)``; states are named ``<name>_<state>``."""
    states = flatten(initial, name)

    def function(**inputs):
        y, state = step(inputs.pop(argument), unflatten(inputs, initial, name))
        after = {f"next_{key}": value for key, value in flatten(state, name).items()}
        return {result: y, **after}

    specs = {key: tf.TensorSpec(t.shape, t.dtype, name=key) for key, t in states.items()}
    return Signature(name, function, {argument: spec, **specs})


def transducer_signatures(model: Transducer, chunk_samples: int) -> list[Signature]:
    """The four functions of a recogniser, batch 1.

    Args:
        model: a float model (the twin).
        chunk_samples: samples of one call, a multiple of an encoder frame's.

    Raises:
        ValueError: if the chunk is no whole number of encoder frames.
    """
    frame = model.frontend.hop_samples * model.encoder.subsampling.factor
    if chunk_samples < frame or chunk_samples % frame:
        raise ValueError(
            f"chunk of {chunk_samples} samples; expected a multiple of {frame} (an encoder frame)"
        )
    frames = chunk_samples // model.frontend.hop_samples
    bins, width = model.config.frontend.mel_bins, model.config.encoder.dim
    predicted = tf.TensorSpec((1, model.config.prediction.dim), tf.float32, name="predicted")
    encoded = tf.TensorSpec((1, width), tf.float32, name="encoded")

    def joint(encoded, predicted):
        return {"logits": model.joint.step(encoded, predicted, model.prediction.table)}

    return [
        _streaming(
            "frontend",
            model.frontend.step,
            "samples",
            tf.TensorSpec((1, chunk_samples), tf.float32, name="samples"),
            "features",
            model.frontend.initial_state(1),
        ),
        _streaming(
            "encoder",
            model.encoder.step,
            "features",
            tf.TensorSpec((1, frames, bins), tf.float32, name="features"),
            "encoded",
            model.encoder.initial_state(1),
        ),
        _streaming(
            "prediction",
            model.prediction.step,
            "label",
            tf.TensorSpec((1,), tf.int32, name="label"),
            "predicted",
            model.prediction.initial_state(1),
        ),
        Signature("joint", joint, {"encoded": encoded, "predicted": predicted}),
    ]
