"""The feed-forward module of Conformer and Transformer blocks."""

import keras

from asr_qat.layers.dense import Dense
from asr_qat.layers.norm import rms_normalize


@keras.saving.register_keras_serializable("asr_qat")
class FeedForward(keras.layers.Layer):
    """Norm, widen, swish, narrow, added to the input.

    The half of the Conformer's half steps is in the narrowing weights, which start half as large:
    one operator less.

    Args:
        dim: width of input and output.
        expansion: how many times wider the inside is.
        dropout: rate before and after the narrowing product.
        share: of a whole step that the weights start with.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(self, dim, expansion=4, dropout=0.0, share=0.5, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.dim, self.expansion, self.rate, self.share = dim, expansion, dropout, share
        self.widen = Dense(
            expansion * dim, "swish", use_bias=False, precision=precision, name="widen"
        )
        smaller = keras.initializers.VarianceScaling(share**2, "fan_avg", "uniform")
        self.narrow = Dense(
            dim, use_bias=False, kernel_initializer=smaller, precision=precision, name="narrow"
        )
        self.inner_dropout = keras.layers.Dropout(dropout)
        self.outer_dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape):
        """``[..., dim]``."""
        self.widen.build(input_shape)
        self.narrow.build((*input_shape[:-1], self.expansion * self.dim))

    def call(self, x, training=False):
        """``[..., dim]`` -> ``[..., dim]``."""
        y = self.inner_dropout(self.widen(rms_normalize(x)), training=training)
        return x + self.outer_dropout(self.narrow(y), training=training)

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
            "share": self.share,
            "precision": self.widen.get_config()["precision"],
        }
