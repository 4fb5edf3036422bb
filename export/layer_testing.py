"""The part of the streaming layers' contract that needs the converter: builtin operators only."""

from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from .convert import convert
from .signature import Signature, flatten, unflatten


def step_signature(layer: Any, chunk: tf.TensorSpec) -> Signature:
    """One `step` of a built layer, ``x`` and each state in, ``y`` and each next state out."""
    initial = layer.initial_state(1)

    def step(x, **states):
        y, after = layer.step(x, unflatten(states, initial, "state"))
        return {"y": y, **{f"next_{k}": v for k, v in flatten(after, "state").items()}}

    states = {
        name: tf.TensorSpec(value.shape, value.dtype, name=name)
        for name, value in flatten(initial, "state").items()
    }
    return Signature("step", step, {"x": chunk, **states})


def check_converts(layer: Any, chunks: np.ndarray, *, tolerance: float = 1e-4) -> None:
    """Checks that a layer's `step` converts to builtin operators and computes the same there.

    Args:
        layer: with `initial_state` and `step`, built, of float precision.
        chunks: ``[chunks, ...]``, given one after the other with the state carried.
        tolerance: absolute and relative.

    Raises:
        AssertionError: an output or a state differs.
        ExportError: a custom or Flex operator is needed.
    """
    spec = tf.TensorSpec((1, *chunks.shape[1:]), chunks.dtype, name="x")
    content = convert([step_signature(layer, spec)], [v.value for v in layer.variables])
    runner = Interpreter(model_content=content).get_signature_runner("step")
    state = layer.initial_state(1)
    held = {k: np.asarray(v) for k, v in flatten(state, "state").items()}
    for number, chunk in enumerate(chunks):
        outputs = runner(x=chunk[None], **held)
        expected, state = layer.step(tf.constant(chunk[None]), state)
        wanted = {"y": expected}
        wanted.update({f"next_{k}": v for k, v in flatten(state, "state").items()})
        assert outputs.keys() == wanted.keys(), f"outputs {sorted(outputs)}"
        for name, value in wanted.items():
            np.testing.assert_allclose(
                outputs[name],
                np.asarray(value),
                rtol=tolerance,
                atol=tolerance,
                err_msg=f"chunk {number}: {name} differs",
            )
        held = {k: outputs[f"next_{k}"] for k in held}
