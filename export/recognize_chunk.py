"""The whole recogniser in one function: samples in, labels out, every state explicit."""

from typing import Any

import tensorflow as tf

from asr_qat.decoding.greedy import greedy_search
from asr_qat.models.passes import Pass
from asr_qat.models.transducer import Transducer

from .signature import Signature, flatten, following, state_specs, unflatten, within

# Input: 0; after the end of the utterance the frames that the pass which looks ahead still owes.
FLUSH = "flush"


def ending(model: Transducer, name: str) -> str:
    """What the names of a pass's results end with: nothing for the first pass."""
    return "" if name == model.passes[0].name else f"_{name}"


def recognizer_signature(model: Transducer, name: str, samples: tf.TensorSpec) -> Signature:
    """Samples and states -> labels of every pass and states: greedy search inside the graph."""
    endings = {one.name: ending(model, one.name) for one in model.passes}
    initial: dict[str, Any] = {"frontend": model.frontend.initial_state(1)}
    initial |= {stage.name: stage.initial_state(1) for stage in model.stages}
    for one in model.passes:
        initial[f"prediction{endings[one.name]}"] = one.prediction.initial_state(1)
    flat = {k: v for part, state in initial.items() for k, v in flatten(state, part).items()}
    late = [one for one in model.passes if one.delay]

    def function(**inputs):
        inputs = {name: within(value, model.vocabulary_size) for name, value in inputs.items()}
        state = {part: unflatten(inputs, each, part) for part, each in initial.items()}
        x, after = model.frontend.step(inputs["samples"], state["frontend"])
        results = following(after, "frontend")
        frames = []
        for stage in model.stages:
            if stage.delay:
                x = x * (1.0 - tf.clip_by_value(inputs[FLUSH], 0.0, 1.0))
            x, after = stage.step(x, state[stage.name])
            results |= following(after, stage.name)
            frames.append(x)
        for one in model.passes:
            end = endings[one.name]
            heard = state[one.stages[-1].name]
            found = _search(model, one, frames[len(one.stages) - 1], heard, inputs, state, end)
            results |= found
        return results

    ints = {
        f"label{end}": tf.TensorSpec((1,), tf.int32, name=f"label{end}") for end in endings.values()
    }
    flags = {FLUSH: tf.TensorSpec((1,), tf.float32, name=FLUSH)} if late else {}
    return Signature(name, function, {"samples": samples, **ints, **flags, **state_specs(flat)})


def _search(
    model: Transducer, one: Pass, encoded, heard, inputs, state, end: str
) -> dict[str, Any]:
    """Labels of one pass in a chunk, and its decoder's next states."""
    count = encoded.shape[1]
    most = count * model.config.max_symbols_per_frame
    labels, number, label, after = greedy_search(
        encoded,
        _frames(one, inputs, count),
        predict=one.prediction.step,
        joint=one.joint_step,
        label=inputs[f"label{end}"],
        state=state[f"prediction{end}"],
        max_labels=most,
        max_symbols_per_frame=model.config.max_symbols_per_frame,
        start=_first_frame(one, heard, count),
    )
    return {
        f"labels{end}": labels,
        f"count{end}": number,
        f"next_label{end}": label,
        **following(after, f"prediction{end}"),
    }


def _frames(one: Pass, inputs, count: int):
    """How many frames there are: all, or those that are owed."""
    if not one.delay:
        return tf.constant([count], tf.int32)
    owed = tf.cast(tf.clip_by_value(inputs[FLUSH], 0.0, float(count)), tf.int32)
    return tf.where(owed > 0, owed, count)


def _first_frame(one: Pass, heard, count: int):
    """The first frames of a pass that looks ahead belong to nothing, and are not searched."""
    if not one.delay:
        return None
    position = tf.reshape(heard["window"]["position"], (1,))
    return tf.cast(tf.clip_by_value(float(one.delay) - position, 0.0, float(count)), tf.int32)
