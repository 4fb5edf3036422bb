"""The streaming Conformer block (2005.08100; left context only, as in 2203.15952).

Norms are root mean squares (1910.07467), half the operators of a layer normalisation; those in
front of a product have no gain, which the product's own weights are.
"""

import keras

from asr_qat.layers.attention import CausalAttention, Window
from asr_qat.layers.base import State
from asr_qat.layers.convolution import ConvolutionModule
from asr_qat.layers.dense import Dense
from asr_qat.layers.norm import EPSILON, rms_normalize


@keras.saving.register_keras_serializable("asr_qat")
class FeedForward(keras.layers.Layer):
    """Half a feed-forward step: norm, widen, swish, narrow.

    The half is in the narrowing weights, which start half as large: one operator less.

    Args:
        dim: width of input and output.
        expansion: how many times wider the inside is.
        dropout: rate before and after the narrowing product.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(self, dim, expansion=4, dropout=0.0, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.dim, self.expansion, self.rate = dim, expansion, dropout
        self.widen = Dense(
            expansion * dim, "swish", use_bias=False, precision=precision, name="widen"
        )
        half = keras.initializers.VarianceScaling(0.5**2, "fan_avg", "uniform")
        self.narrow = Dense(
            dim, use_bias=False, kernel_initializer=half, precision=precision, name="narrow"
        )
        self.inner_dropout = keras.layers.Dropout(dropout)
        self.outer_dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape):
        """``[..., dim]``."""
        self.widen.build(input_shape)
        self.narrow.build((*input_shape[:-1], self.expansion * self.dim))

    def call(self, x, training=False):
        """``[..., dim]`` -> ``[..., dim]``."""
        x = self.inner_dropout(self.widen(rms_normalize(x)), training=training)
        return self.outer_dropout(self.narrow(x), training=training)

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "expansion": self.expansion,
            "dropout": self.rate,
            "precision": self.widen.get_config()["precision"],
        }


@keras.saving.register_keras_serializable("asr_qat")
class ConformerBlock(keras.layers.Layer):
    """Half feed-forward, attention, convolution, half feed-forward, norm; each but the last added.

    Args:
        dim: width of input and output.
        heads: attention heads.
        left_context: frames of the past that attention sees.
        kernel_size: taps of the depthwise convolution.
        expansion: of the feed-forward layers.
        dropout: rate on every branch.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(
        self,
        dim,
        heads,
        left_context,
        kernel_size,
        expansion=4,
        dropout=0.0,
        precision="float32",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "dim": dim,
            "heads": heads,
            "left_context": left_context,
            "kernel_size": kernel_size,
            "expansion": expansion,
            "dropout": dropout,
        }
        self.before = FeedForward(dim, expansion, dropout, precision, name="feed_forward_0")
        self.attention = CausalAttention(
            dim, heads, left_context, dropout, precision, name="attention"
        )
        self.convolution = ConvolutionModule(dim, kernel_size, precision, name="convolution")
        self.after = FeedForward(dim, expansion, dropout, precision, name="feed_forward_1")
        self.norm = keras.layers.RMSNormalization(epsilon=EPSILON, name="norm")
        self.attention_dropout = keras.layers.Dropout(dropout)
        self.convolution_dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        for layer in (
            self.before,
            self.attention,
            self.convolution,
            self.after,
            self.norm,
        ):
            layer.build(input_shape)

    def initial_state(self, batch):
        """States of the attention and of the convolution."""
        return {
            "attention": self.attention.initial_state(batch),
            "convolution": self.convolution.initial_state(batch),
        }

    def step(self, x, state: State, window: Window, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``, next state."""
        x = x + self.before(x, training=training)
        y, attention = self.attention.step(
            rms_normalize(x), state["attention"], window, training=training
        )
        x = x + self.attention_dropout(y, training=training)
        y, convolution = self.convolution.step(rms_normalize(x), state["convolution"])
        x = x + self.convolution_dropout(y, training=training)
        x = x + self.after(x, training=training)
        return self.norm(x), {"attention": attention, "convolution": convolution}

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        precision = self.before.get_config()["precision"]
        return {**super().get_config(), **self.settings, "precision": precision}
