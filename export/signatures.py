"""The functions of the exported file.

| signature | in | out |
|---|---|---|
| frontend | samples | features |
| encoder | features | encoded |
| prediction | label | predicted |
| joint | encoded, predicted | logits |
| recognize_chunk | samples, label | labels, count |
| encode_utterance | samples, any number | encoded |

Every state is a named input ``x`` and a named output ``next_x``; all are zero at the start.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from asr_qat.decoding.greedy import greedy_search
from asr_qat.models.transducer import Transducer

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


def _state_specs(states: dict[str, Any]) -> dict[str, tf.TensorSpec]:
    return {key: tf.TensorSpec(t.shape, t.dtype, name=key) for key, t in states.items()}


def _following(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {f"next_{key}": value for key, value in flatten(state, prefix).items()}


def _streaming(name, part, step, argument, spec, result, initial) -> Signature:
    """A signature around ``step(x, state) -> (y, state)``; states are named ``<part>_<state>``."""

    def function(**inputs):
        y, state = step(inputs.pop(argument), unflatten(inputs, initial, part))
        return {result: y, **_following(state, part)}

    return Signature(name, function, {argument: spec, **_state_specs(flatten(initial, part))})


def frame_samples(model: Transducer) -> int:
    """Samples of one encoder frame."""
    return model.frontend.hop_samples * model.encoder.subsampling.factor


def chunk_signatures(model: Transducer, chunk_samples: int, suffix: str = "") -> list[Signature]:
    """Front end, encoder, and the whole recogniser, on chunks of one size, batch 1.

    Args:
        model: whose products are being traced (`twin.weights_as_inputs`).
        chunk_samples: samples of one call, a multiple of an encoder frame's.
        suffix: of the signatures' names; the states' names have none, so that a stream may change
            its chunk size as it runs.
    """
    frames = chunk_samples // model.frontend.hop_samples
    bins = model.config.frontend.mel_bins
    samples = tf.TensorSpec((1, chunk_samples), tf.float32, name="samples")
    features = tf.TensorSpec((1, frames, bins), tf.float32, name="features")
    frontend, encoder = model.frontend.initial_state(1), model.encoder.initial_state(1)
    return [
        _streaming(
            f"frontend{suffix}",
            "frontend",
            model.frontend.step,
            "samples",
            samples,
            "features",
            frontend,
        ),
        _streaming(
            f"encoder{suffix}",
            "encoder",
            model.encoder.step,
            "features",
            features,
            "encoded",
            encoder,
        ),
        _recognizer(model, f"recognize_chunk{suffix}", samples),
    ]


def _recognizer(model: Transducer, name: str, samples: tf.TensorSpec) -> Signature:
    """Samples and states -> labels and states: greedy search inside the graph."""
    parts = {"frontend": model.frontend, "encoder": model.encoder, "prediction": model.prediction}
    initial = {part: layer.initial_state(1) for part, layer in parts.items()}
    frames = samples.shape[1] // frame_samples(model)
    most = frames * model.config.max_symbols_per_frame
    flat = {k: v for part, state in initial.items() for k, v in flatten(state, part).items()}

    def function(**inputs):
        inputs = {name: _within(value, model.vocabulary_size) for name, value in inputs.items()}
        state = {part: unflatten(inputs, initial[part], part) for part in parts}
        features, after = model.frontend.step(inputs["samples"], state["frontend"])
        following = _following(after, "frontend")
        encoded, after = model.encoder.step(features, state["encoder"])
        following |= _following(after, "encoder")
        table = model.prediction.table
        labels, count, label, after = greedy_search(
            encoded,
            tf.constant([frames], tf.int32),
            predict=model.prediction.step,
            joint=lambda frame, predicted: model.joint.step(frame, predicted, table),
            label=inputs["label"],
            state=state["prediction"],
            max_labels=most,
            max_symbols_per_frame=model.config.max_symbols_per_frame,
        )
        following |= _following(after, "prediction")
        return {"labels": labels, "count": count, "next_label": label, **following}

    label = tf.TensorSpec((1,), tf.int32, name="label")
    return Signature(name, function, {"samples": samples, "label": label, **_state_specs(flat)})


def _within(value, vocabulary_size):
    """Labels kept inside the vocabulary: `benchmark_model` feeds random ones."""
    return tf.clip_by_value(value, 0, vocabulary_size - 1) if value.dtype == tf.int32 else value


def decoder_signatures(model: Transducer) -> list[Signature]:
    """One step of the prediction network, and the joint network, batch 1."""
    predicted = tf.TensorSpec((1, model.config.prediction.dim), tf.float32, name="predicted")
    encoded = tf.TensorSpec((1, model.config.encoder.dim), tf.float32, name="encoded")

    def joint(encoded, predicted):
        return {"logits": model.joint.step(encoded, predicted, model.prediction.table)}

    def predict(label, state):
        state = {name: _within(value, model.vocabulary_size) for name, value in state.items()}
        return model.prediction.step(_within(label, model.vocabulary_size), state)

    return [
        _streaming(
            "prediction",
            "prediction",
            predict,
            "label",
            tf.TensorSpec((1,), tf.int32, name="label"),
            "predicted",
            model.prediction.initial_state(1),
        ),
        Signature("joint", joint, {"encoded": encoded, "predicted": predicted}),
    ]


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


def utterance_signature(model: Transducer) -> Signature:
    """Samples of a whole utterance, of any length, to encoder frames; no states."""

    def function(samples):
        return {"encoded": model.encoder(model.frontend(samples))}

    samples = tf.TensorSpec((1, None), tf.float32, name="samples")
    return Signature("encode_utterance", function, {"samples": samples})
