"""The encoder: subsampling, then a stack of streaming Conformer blocks."""

from typing import Any

import keras

from asr_qat.layers.attention import AttentionWindow
from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.conformer import ConformerBlock
from asr_qat.layers.subsampling import ConvolutionSubsampling


@keras.saving.register_keras_serializable("asr_qat")
class Encoder(StreamingLayer):
    """Features ``[batch, time, bins]`` -> ``[batch, time // 4, dim]``.

    Args:
        dim: width.
        blocks: number of Conformer blocks.
        heads: attention heads.
        left_context: encoder frames that attention looks back.
        kernel_size: taps of the depthwise convolutions.
        expansion: of the feed-forward layers.
        dropout: rate on every branch.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(
        self,
        dim,
        blocks,
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
            "blocks": blocks,
            "heads": heads,
            "left_context": left_context,
            "kernel_size": kernel_size,
            "expansion": expansion,
            "dropout": dropout,
        }
        self.dim = dim
        self.subsampling = ConvolutionSubsampling(dim, precision, name="subsampling")
        self.dropout = keras.layers.Dropout(dropout)
        self.window = AttentionWindow(left_context, dim // heads, name="window")
        self.blocks = [
            ConformerBlock(
                dim,
                heads,
                left_context,
                kernel_size,
                expansion,
                dropout,
                precision,
                name=f"block_{i}",
            )
            for i in range(blocks)
        ]

    def build(self, input_shape):
        """``[batch, time, bins]``."""
        self.subsampling.build(input_shape)
        for block in self.blocks:
            block.build((None, None, self.dim))

    def initial_state(self, batch):
        """The states of all parts, by their names."""
        parts: list[Any] = [self.subsampling, self.window, *self.blocks]
        return {part.name: part.initial_state(batch) for part in parts}

    def step(self, x, state, training=False):
        """``[batch, time, bins]`` -> ``[batch, time // 4, dim]``."""
        after = {}
        x, after["subsampling"] = self.subsampling.step(x, state["subsampling"])
        x = self.dropout(x, training=training)
        window, after["window"] = self.window.step(x, state["window"])
        for block in self.blocks:
            x, after[block.name] = block.step(x, state[block.name], window, training=training)
        return x, after

    def compute_output_shape(self, input_shape):
        """``[batch, time, bins]`` -> ``[batch, time // 4, dim]``."""
        return self.subsampling.compute_output_shape(input_shape)

    def get_config(self):
        """The constructor's arguments."""
        precision = self.subsampling.get_config()["precision"]
        return {**super().get_config(), **self.settings, "precision": precision}
