"""A recurrent language model as a .tflite file (run by `asr_qat.runtime.search.lstm_lm`).

| in | out |
|---|---|
| `label` int32 [1], states | `log_probs` [1, labels], `next_…` states |
"""

import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from asr_qat.language_models.lstm import LstmLanguageModel
from asr_qat.quantization.spec import Policy
from asr_qat.runtime.search.lstm_lm import KIND

from .keras_model import ModelParity, export_keras_model
from .signature import flatten, following, state_specs, unflatten, within

_STATE = "state"


class _OneStep(keras.Model):
    """One label and the states, as tensors in a list -> log probabilities and states, by name."""

    def __init__(self, model: LstmLanguageModel):
        super().__init__(name="step")
        self.model = model
        self.initial = model.decoder.initial_state(1)
        self.names = list(flatten(self.initial, _STATE))
        self.built = True

    def call(self, inputs, training=False):
        label, *states = inputs
        state = unflatten(dict(zip(self.names, states, strict=True)), self.initial, _STATE)
        log_probs, state = self.model.step(within(label, self.model.vocabulary_size), state)
        return {"log_probs": log_probs, **following(state, _STATE)}


def export_language_model(
    model: LstmLanguageModel,
    path: str | os.PathLike[str],
    pieces: Sequence[str],
    *,
    precision: str | Policy | None = None,
    float16: bool = False,
) -> ModelParity:
    """Writes one step of a model as a file that describes itself.

    Args:
        model: a language model of the pieces.
        path: of the file.
        pieces: of the recogniser; index 0 is the blank.
        precision: another precision than the model's; see `export_keras_model`.
        float16: whether to store as float16 what stays float.

    Returns:
        What the proof found.

    Raises:
        ExportError: the file fails its proof; none is left then.
    """
    step = _OneStep(model)
    label = tf.TensorSpec((1,), tf.int32, name="label")
    states = state_specs(flatten(step.initial, _STATE))
    rng = np.random.default_rng(0)
    # A cell's outputs lie between -1 and 1, and so do those that the proof feeds back.
    sample = [np.tanh(rng.normal(size=spec.shape)).astype(np.float32) for spec in states.values()]
    return export_keras_model(
        step,
        path,
        precision=precision,
        input_signature=[label, *states.values()],
        float16=float16,
        sample=[np.array([1], np.int32), *sample],
        notes={KIND: {"pieces": list(pieces)}},
    )
