"""The streaming Transformer block (1706.03762, norms first; the patent's other encoder)."""

import keras

from asr_qat.layers.attention import Window
from asr_qat.layers.base import State, unbuilt
from asr_qat.layers.feed_forward import FeedForward
from asr_qat.layers.norm import EPSILON


@keras.saving.register_keras_serializable("asr_qat")
class TransformerBlock(keras.layers.Layer):
    """Attention and feed-forward, each added, then a norm; order is told by rotary positions.

    Args:
        attention: the attention module, such as `layers.attention.CausalAttention`.
        expansion: of the feed-forward layer.
        dropout: rate on the feed-forward layer.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(self, attention, expansion=4, dropout=0.0, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.attention = attention
        self.after = FeedForward(
            attention.dim, expansion, dropout, share=1.0, precision=precision, name="feed_forward"
        )
        self.norm = keras.layers.RMSNormalization(epsilon=EPSILON, name="norm")

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        for layer in (self.attention, self.after, self.norm):
            layer.build(input_shape)

    def initial_state(self, batch):
        """The attention's."""
        return {"attention": self.attention.initial_state(batch)}

    def step(self, x, state: State, window: Window, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``, next state."""
        x, attention = self.attention.step(x, state["attention"], window, training=training)
        return self.norm(self.after(x, training=training)), {"attention": attention}

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        inner = self.after.get_config()
        kept = {key: inner[key] for key in ("expansion", "dropout", "precision")}
        attention = unbuilt(self.attention)
        return {**super().get_config(), "attention": attention, **kept}

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`."""
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "attention": attention})
