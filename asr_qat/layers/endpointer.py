"""The endpointer: is a frame speech, or which silence? (2208.13916)"""

import keras

from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.dense import Dense
from asr_qat.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable("asr_qat")
class Endpointer(StreamingLayer):
    """Frames ``[batch, time, dim]`` -> logits ``[batch, time, classes]``: an SRU, then a product.

    Silence before speech and after it sound alike, so what was heard before has to be remembered,
    for longer than attention looks back: hence the recurrent layer.

    Args:
        classes: how many.
        hidden: units of the recurrent layer.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(self, classes, hidden=64, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.classes, self.hidden = classes, hidden
        self.recurrent = Recurrent("sru", hidden, precision=precision, name="recurrent")
        self.score = Dense(classes, precision=precision, name="score")

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        self.recurrent.build(input_shape)
        self.score.build((None, None, self.hidden))

    def initial_state(self, batch):
        """The recurrent layer's."""
        return self.recurrent.initial_state(batch)

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, classes]``; time is static."""
        x, state = self.recurrent.step(x, state, training=training)
        return self.score(x, training=training), state

    def call(self, x, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, classes]``; loops over time."""
        return self.score(self.recurrent(x, training=training), training=training)

    def compute_output_shape(self, input_shape):
        """``[batch, time, dim]`` -> ``[batch, time, classes]``."""
        return (*input_shape[:-1], self.classes)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "classes": self.classes,
            "hidden": self.hidden,
            "precision": self.score.get_config()["precision"],
        }
