"""One function of an exported file: tensors and states in, tensors and next states out, by name."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from .flatbuffer import TENSOR_TYPE_NAMES, indices, text


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


def state_specs(states: dict[str, Any]) -> dict[str, tf.TensorSpec]:
    """The inputs for a flat state."""
    return {key: tf.TensorSpec(t.shape, t.dtype, name=key) for key, t in states.items()}


def following(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The outputs for the state after a call."""
    return {f"next_{key}": value for key, value in flatten(state, prefix).items()}


def streaming(name, part, step, argument, spec, result, initial) -> Signature:
    """A signature around ``step(x, state) -> (y, state)``; states are named ``<part>_<state>``."""

    def function(**inputs):
        y, state = step(inputs.pop(argument), unflatten(inputs, initial, part))
        return {result: y, **following(state, part)}

    return Signature(name, function, {argument: spec, **state_specs(flatten(initial, part))})


def within(value, vocabulary_size):
    """Labels kept inside the vocabulary: `benchmark_model` feeds random ones."""
    return tf.clip_by_value(value, 0, vocabulary_size - 1) if value.dtype == tf.int32 else value


def described(model: schema.ModelT) -> dict[str, Any]:
    """The inputs and outputs of every signature of a file: shape, and type, by name."""

    def ends(graph, entries):
        tensors = {text(e.name): graph.tensors[e.tensorIndex] for e in entries or []}
        return {
            name: {
                "shape": indices(t.shape if t.shapeSignature is None else t.shapeSignature),
                "type": TENSOR_TYPE_NAMES[t.type],
            }
            for name, t in sorted(tensors.items())
        }

    return {
        text(s.signatureKey): {
            "inputs": ends(model.subgraphs[s.subgraphIndex], s.inputs),
            "outputs": ends(model.subgraphs[s.subgraphIndex], s.outputs),
        }
        for s in model.signatureDefs
    }
