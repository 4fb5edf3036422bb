"""The attention encoders: subsampling, then a stack of streaming blocks."""

import keras

from asr_qat.layers.base import StreamingLayer, unbuilt
from asr_qat.layers.subsampling import ConvolutionSubsampling


@keras.saving.register_keras_serializable("asr_qat")
class Encoder(StreamingLayer):
    """Features ``[batch, time, bins]`` -> ``[batch, time // 4, dim]``.

    Args:
        stack: the blocks, such as `models.stack.ConformerStack`, named.
        width: of the subsampling's first convolution.
        dropout: rate between subsampling and blocks.
        precision: of the subsampling, a recipe's name or a `Policy`.
    """

    factor = ConvolutionSubsampling.factor

    def __init__(self, stack, width, dropout=0.0, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.stack, self.rate, self.dim = stack, dropout, stack.dim
        self.subsampling = ConvolutionSubsampling(stack.dim, width, precision, name="subsampling")
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape):
        """``[batch, time, bins]``."""
        self.subsampling.build(input_shape)
        self.stack.build((None, None, self.dim))

    def initial_state(self, batch):
        """The states of both parts."""
        return {
            "subsampling": self.subsampling.initial_state(batch),
            "stack": self.stack.initial_state(batch),
        }

    def step(self, x, state, training=False):
        """``[batch, time, bins]`` -> ``[batch, time // 4, dim]``."""
        x, subsampling = self.subsampling.step(x, state["subsampling"])
        x = self.dropout(x, training=training)
        x, stack = self.stack.step(x, state["stack"], training=training)
        return x, {"subsampling": subsampling, "stack": stack}

    def compute_output_shape(self, input_shape):
        """``[batch, time, bins]`` -> ``[batch, time // 4, dim]``."""
        return self.subsampling.compute_output_shape(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        subsampling = self.subsampling.get_config()
        return {
            **super().get_config(),
            "stack": unbuilt(self.stack),
            "width": subsampling["width"],
            "dropout": self.rate,
            "precision": subsampling["precision"],
        }

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`."""
        stack = keras.saving.deserialize_keras_object(config["stack"])
        return cls(**{**config, "stack": stack})
