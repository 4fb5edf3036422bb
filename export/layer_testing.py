"""The part of the streaming layers' contract that needs the converter: builtin operators only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from .flatbuffer import assert_builtin_only
from .signatures import flatten, unflatten


def convert_step(layer: Any, chunk_shape: Sequence[int], dtype: Any = tf.float32) -> bytes:
    """One `step` of a built layer as a .tflite file of one signature, states as named inputs.

    Args:
        layer: with `initial_state` and `step`, built.
        chunk_shape: of one chunk without the batch, which is 1; empty for a single label.
        dtype: of the chunk.
    """
    initial = layer.initial_state(1)

    def step(x, **states):
        y, after = layer.step(x, unflatten(states, initial, "state"))
        return {"y": y, **{f"next_{k}": v for k, v in flatten(after, "state").items()}}

    specs = {
        name: tf.TensorSpec(value.shape, value.dtype, name=name)
        for name, value in flatten(initial, "state").items()
    }
    function = tf.function(step, autograph=False).get_concrete_function(
        x=tf.TensorSpec((1, *chunk_shape), dtype, name="x"), **specs
    )
    return tf.lite.TFLiteConverter.from_concrete_functions([function], layer).convert()


def check_converts(layer: Any, chunks: np.ndarray, *, tolerance: float = 1e-4) -> None:
    """Checks that a layer's `step` converts to builtin operators and computes the same.

    Args:
        layer: with `initial_state` and `step`, built, of float precision.
        chunks: ``[chunks, ...]``, given one after the other with the state carried.
        tolerance: absolute and relative.

    Raises:
        AssertionError: an output or a state differs.
        ExportError: a custom or Flex operator is needed.
    """
    content = convert_step(layer, chunks.shape[1:], tf.as_dtype(chunks.dtype))
    assert_builtin_only(content)
    runner = Interpreter(model_content=content).get_signature_runner()
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
