"""The streaming Conformer block (2005.08100; left context only, as in 2203.15952).

Norms are root mean squares (1910.07467), half the operators of a layer normalisation; those in
front of a product have no gain, which the product's own weights are.
"""

import keras

from asr_qat.layers.attention import Window
from asr_qat.layers.base import State, unbuilt
from asr_qat.layers.convolution import ConvolutionModule
from asr_qat.layers.feed_forward import FeedForward
from asr_qat.layers.norm import EPSILON


@keras.saving.register_keras_serializable("asr_qat")
class ConformerBlock(keras.layers.Layer):
    """Half feed-forward, attention, convolution, half feed-forward, norm; each but the last added.

    Args:
        attention: the attention module, such as `CausalAttention`.
        kernel_size: taps of the depthwise convolution.
        expansion: of the feed-forward layers.
        dropout: rate on every branch but attention's, which has its own.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(
        self, attention, kernel_size, expansion=4, dropout=0.0, precision="float32", **kwargs
    ):
        super().__init__(**kwargs)
        self.attention = attention
        dim = attention.dim
        self.settings = {"kernel_size": kernel_size, "expansion": expansion, "dropout": dropout}
        self.before = FeedForward(
            dim, expansion, dropout, precision=precision, name="feed_forward_0"
        )
        self.convolution = ConvolutionModule(
            dim, kernel_size, dropout, precision, name="convolution"
        )
        self.after = FeedForward(
            dim, expansion, dropout, precision=precision, name="feed_forward_1"
        )
        self.norm = keras.layers.RMSNormalization(epsilon=EPSILON, name="norm")

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        for layer in (self.before, self.attention, self.convolution, self.after, self.norm):
            layer.build(input_shape)

    def initial_state(self, batch):
        """States of the attention and of the convolution."""
        return {
            "attention": self.attention.initial_state(batch),
            "convolution": self.convolution.initial_state(batch),
        }

    def step(self, x, state: State, window: Window, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``, next state."""
        x = self.before(x, training=training)
        x, attention = self.attention.step(x, state["attention"], window, training=training)
        x, convolution = self.convolution.step(x, state["convolution"], training=training)
        x = self.after(x, training=training)
        return self.norm(x), {"attention": attention, "convolution": convolution}

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        precision = self.before.get_config()["precision"]
        attention = unbuilt(self.attention)
        return {
            **super().get_config(),
            "attention": attention,
            **self.settings,
            "precision": precision,
        }

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`."""
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "attention": attention})
