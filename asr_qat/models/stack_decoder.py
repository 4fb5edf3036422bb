"""Prediction networks that attend to a bounded number of labels: Transformer, Conformer."""

import keras
from keras import ops

from asr_qat.layers.base import unbuilt


@keras.saving.register_keras_serializable("asr_qat")
class StackDecoder(keras.layers.Layer):
    """Embedding, then a causal stack of blocks over the labels (2002.02562).

    Args:
        vocabulary_size: labels, blank (0) included. Row 0 stands for "no label yet".
        stack: the blocks, such as `models.stack.TransformerStack`, named; its width is that of
            the embeddings.
    """

    def __init__(self, vocabulary_size, stack, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size, self.stack, self.dim = vocabulary_size, stack, stack.dim

    def build(self, input_shape=None):
        """Makes table ``[vocabulary, dim]``."""
        self.table = self.add_weight(
            shape=(self.vocabulary_size, self.dim),
            initializer=keras.initializers.VarianceScaling(mode="fan_out"),
            name="table",
        )
        self.stack.build((None, None, self.dim))

    def initial_state(self, batch):
        """The stack's: keys and values of the labels that are still seen."""
        return self.stack.initial_state(batch)

    def call(self, labels, training=False):
        """Labels int32 ``[batch, u]`` -> predictions ``[batch, u + 1, dim]``, first for none."""
        return self.stack(self._embed(ops.pad(labels, ((0, 0), (1, 0)))), training=training)

    def step(self, label, state):
        """One label int32 ``[batch]`` -> prediction ``[batch, dim]``, next state."""
        y, state = self.stack.step(self._embed(ops.expand_dims(label, 1)), state)
        return ops.squeeze(y, 1), state

    def _embed(self, labels):
        return ops.take(ops.convert_to_tensor(self.table), labels, axis=0)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "stack": unbuilt(self.stack),
        }

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`."""
        stack = keras.saving.deserialize_keras_object(config["stack"])
        return cls(**{**config, "stack": stack})
