"""Helpers that tests share: gradients on any backend, and the contract of streaming layers."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from asr_qat.backend import compiled

__all__ = [
    "call_in_chunks",
    "check_prediction_network",
    "check_streaming_layer",
    "compiled",
    "gradient_of",
    "needs_exact_xla",
    "weight_gradients",
]


def needs_exact_xla(recipe: Any) -> None:
    """Skips a test of a float16 or static recipe (or rules with one) on TensorFlow 2.16.

    Its XLA leaves out roundings to float16, and divides by multiplying with reciprocals. (A model
    trained there at such a recipe does not pass its proof: the exporter refuses it.)
    """
    import pytest

    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    inexact = any(kind in str(recipe) for kind in ("float16", "static"))
    if inexact and tf.__version__.startswith("2.16."):
        pytest.skip("XLA of TensorFlow 2.16 computes float16 and static recipes inexactly")


def gradient_of(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    """d function / dx of a scalar function of one array, on the active Keras backend."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(ops.convert_to_tensor(x)))
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x).numpy()


def weight_gradients(layer: keras.layers.Layer, x: Any, weighting: Any) -> dict[str, np.ndarray]:
    """d sum(layer(x) * weighting) / d weight of every trainable weight, by the weight's path."""
    variables = layer.trainable_variables
    if keras.backend.backend() == "jax":
        import jax

        def loss(values):
            others = [v.value for v in layer.non_trainable_variables]
            return ops.sum(layer.stateless_call(values, others, x)[0] * weighting)

        gradients = jax.grad(loss)([v.value for v in variables])
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            y = ops.sum(layer(x) * weighting)
        # A weight that has no influence gets None from TensorFlow, and zeros from JAX.
        gradients = tape.gradient(y, [v.value for v in variables], unconnected_gradients="zero")
    return {v.path: ops.convert_to_numpy(g) for v, g in zip(variables, gradients, strict=True)}


def call_in_chunks(layer: Any, x: np.ndarray, chunk: int) -> np.ndarray:
    """The outputs of `step` over pieces of `chunk` along axis 1, the state carried, joined.

    A layer that looks ahead is brought to the end by zeros; its first late outputs are left out.
    """
    state, pieces = layer.initial_state(len(x)), []
    ended = np.pad(x, ((0, 0), (0, layer.delay), *[(0, 0)] * (x.ndim - 2)))
    for start in range(0, ended.shape[1], chunk):
        y, state = layer.step(ops.convert_to_tensor(ended[:, start : start + chunk]), state)
        pieces.append(ops.convert_to_numpy(y))
    return np.concatenate(pieces, axis=1)[:, layer.delay :]


def check_streaming_layer(
    layer: Any,
    input_shape: Sequence[int],
    chunk_sizes: Sequence[int],
    *,
    future: float = np.nan,
    tolerance: float = 1e-5,
    batch: int = 2,
) -> None:
    """Checks the contract of a `StreamingLayer`, but for its conversion.

    `call` over the sequence equals `step` chunk by chunk; no output depends on input later than
    the layer's ``delay``;
    gradients reach every trainable weight; `from_config` of `get_config` makes an equal layer.
    (That it converts to TFLite is checked by `asr_qat.export.layer_testing.check_converts`.)

    Args:
        layer: not yet built, dropout 0.
        input_shape: of one example: ``(time, dim)``, or ``(samples,)``.
        chunk_sizes: sizes of chunks along time, each a whole number of output frames.
        future: stands in for the input after a frame; not NaN where the layer multiplies what it
            must not see by zero.
        tolerance: of call against step, absolute and relative.
        batch: examples.

    Raises:
        AssertionError: says which part of the contract is broken.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, *input_shape)).astype(np.float32)
    layer.build((None, None, *input_shape[1:]))
    for weight in layer.trainable_variables:  # away from zeros and ones, where errors can hide
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape).astype(np.float32))
    whole = ops.convert_to_numpy(layer(x))
    assert np.isfinite(whole).all(), "outputs are not finite"
    declared = layer.compute_output_shape(x.shape)
    assert whole.shape == tuple(declared), f"output {whole.shape}, declared {declared}"
    for chunk in chunk_sizes:
        np.testing.assert_allclose(
            call_in_chunks(layer, x, chunk),
            whole,
            rtol=tolerance,
            atol=tolerance,
            err_msg=f"call differs from step in chunks of {chunk}",
        )
    _check_causal(layer, x, whole, future)
    if layer.trainable_variables:
        weighting = rng.normal(size=whole.shape).astype(np.float32)
        for path, gradient in weight_gradients(layer, x, weighting).items():
            assert np.isfinite(gradient).all(), f"the gradient of {path} is not finite"
            assert np.any(gradient != 0), f"the gradient of {path} is zero everywhere"
    copy = type(layer).from_config(layer.get_config())
    copy.build((None, None, *input_shape[1:]))
    copy.set_weights(layer.get_weights())
    assert copy.get_config() == layer.get_config(), "get_config changes in a round trip"
    np.testing.assert_array_equal(ops.convert_to_numpy(copy(x)), whole)


def check_prediction_network(layer: Any, labels: np.ndarray, *, tolerance: float = 1e-5) -> None:
    """Checks the contract of a prediction network, but for its conversion.

    `call` over labels equals `step` label by label after the blank; no prediction depends on later
    labels; gradients reach every trainable weight; `from_config` of `get_config` makes an equal
    layer.

    Args:
        layer: built, dropout 0.
        labels: int32 ``[batch, u]``, u at least 3.
        tolerance: of call against step, absolute.

    Raises:
        AssertionError: says which part of the contract is broken.
    """
    state, steps = layer.initial_state(len(labels)), []
    for label in np.pad(labels, ((0, 0), (1, 0))).T:
        y, state = layer.step(ops.convert_to_tensor(label), state)
        steps.append(ops.convert_to_numpy(y))
    whole = ops.convert_to_numpy(layer(labels))
    assert whole.shape == (len(labels), labels.shape[1] + 1, layer.dim), f"output {whole.shape}"
    np.testing.assert_allclose(
        np.stack(steps, 1), whole, atol=tolerance, err_msg="call differs from step"
    )
    changed = labels.copy()
    changed[:, 2:] = (labels[:, 2:] + 1) % layer.vocabulary_size
    after = ops.convert_to_numpy(layer(changed))
    np.testing.assert_allclose(
        after[:, :3], whole[:, :3], atol=1e-6, err_msg="predictions depend on later labels"
    )
    assert np.any(after[:, 3:] != whole[:, 3:]), "predictions do not depend on labels"
    weighting = np.random.default_rng(0).normal(size=whole.shape).astype(np.float32)
    for path, gradient in weight_gradients(layer, labels, weighting).items():
        assert np.isfinite(gradient).all(), f"the gradient of {path} is not finite"
        assert np.any(gradient != 0), f"the gradient of {path} is zero everywhere"
    copy = type(layer).from_config(layer.get_config())
    copy.build()
    copy.set_weights(layer.get_weights())
    assert copy.get_config() == layer.get_config(), "get_config changes in a round trip"
    np.testing.assert_array_equal(ops.convert_to_numpy(copy(labels)), whole)


def _check_causal(layer, x, whole, future):
    """Replaces everything from an input frame on; the outputs before must stay as they are."""
    factor = x.shape[1] // whole.shape[1]
    count = whole.shape[1] - layer.delay
    for output in {1, count // 2, count - 1}:
        changed = x.copy()
        changed[:, (output + layer.delay) * factor :] = future
        y = ops.convert_to_numpy(layer(changed))[:, :output]
        np.testing.assert_allclose(
            y,
            whole[:, :output],
            rtol=1e-6,
            atol=1e-6,
            err_msg=f"outputs before {output} depend on inputs from "
            f"{(output + layer.delay) * factor} on",
        )
