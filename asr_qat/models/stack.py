"""Stacks of blocks that share a window: the body of every attention encoder.

window ─┬─────────┬─────────┐
x ──▶ block_0 ─▶ block_1 ─▶ … ──▶ y
"""

from typing import Any

import keras

from asr_qat.layers.attention import AttentionWindow, CausalAttention
from asr_qat.layers.base import LookaheadLayer, StreamingLayer
from asr_qat.layers.conformer import ConformerBlock
from asr_qat.layers.funnel import FunnelAttention, FunnelAttentionWindow
from asr_qat.layers.lookahead import LookaheadAttention
from asr_qat.layers.transformer import TransformerBlock


class BlockStack(StreamingLayer):
    """A window and blocks, ``[batch, time, dim]`` -> ``[batch, time, dim]``.

    Args:
        window: an `AttentionWindow`, for all blocks.
        blocks: layers with ``step(x, state, window, training)``, named.
        settings: the subclass's own arguments, for its configuration.
    """

    def __init__(self, window: AttentionWindow, blocks: list, settings: dict[str, Any], **kwargs):
        super().__init__(**kwargs)
        self.window, self.blocks, self.settings = window, blocks, settings
        self.dim = settings["dim"]

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        for block in self.blocks:
            block.build(input_shape)

    def initial_state(self, batch):
        """The window's and the blocks', by their names."""
        parts: list[Any] = [self.window, *self.blocks]
        return {part.name: part.initial_state(batch) for part in parts}

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``, next state."""
        window, position = self.window.step(x, state["window"])
        after = {"window": position}
        for block in self.blocks:
            x, after[block.name] = block.step(x, state[block.name], window, training=training)
        return x, after

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        precision = self.blocks[0].get_config()["precision"]
        return {**super().get_config(), **self.settings, "precision": precision}


def conformer_blocks(attentions, kernel_size, expansion, dropout, precision) -> list:
    """Conformer blocks, each around one of the attention modules."""
    return [
        ConformerBlock(
            attention, kernel_size, expansion, dropout, precision, name=f"block_{number}"
        )
        for number, attention in enumerate(attentions)
    ]


@keras.saving.register_keras_serializable("asr_qat")
class ConformerStack(BlockStack):
    """Causal Conformer blocks.

    Args:
        dim: width.
        blocks: how many.
        heads: attention heads.
        left_context: frames that attention looks back.
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
        settings = {
            "dim": dim,
            "blocks": blocks,
            "heads": heads,
            "left_context": left_context,
            "kernel_size": kernel_size,
            "expansion": expansion,
            "dropout": dropout,
        }
        super().__init__(
            AttentionWindow(left_context, dim // heads, name="window"),
            conformer_blocks(
                [
                    CausalAttention(dim, heads, left_context, dropout, precision, name="attention")
                    for _ in range(blocks)
                ],
                kernel_size,
                expansion,
                dropout,
                precision,
            ),
            settings,
            **kwargs,
        )


@keras.saving.register_keras_serializable("asr_qat")
class TransformerStack(BlockStack):
    """Causal Transformer blocks.

    Args:
        dim: width.
        blocks: how many.
        heads: attention heads.
        left_context: frames that attention looks back.
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
        expansion=4,
        dropout=0.0,
        precision="float32",
        **kwargs,
    ):
        settings = {
            "dim": dim,
            "blocks": blocks,
            "heads": heads,
            "left_context": left_context,
            "expansion": expansion,
            "dropout": dropout,
        }
        super().__init__(
            AttentionWindow(left_context, dim // heads, name="window"),
            [
                TransformerBlock(
                    CausalAttention(dim, heads, left_context, dropout, precision, name="attention"),
                    expansion,
                    dropout,
                    precision,
                    name=f"block_{i}",
                )
                for i in range(blocks)
            ],
            settings,
            **kwargs,
        )


@keras.saving.register_keras_serializable("asr_qat")
class LookaheadStack(LookaheadLayer, BlockStack):
    """Conformer blocks whose attention sees ahead: the second pass of a cascade (2010.14606).

    The convolutions stay causal; the right context is the attentions' alone, shared out evenly.

    Args:
        dim: width.
        blocks: how many.
        heads: attention heads.
        left_context: frames that attention looks back.
        right_context: frames that the whole stack looks ahead, a multiple of ``blocks``.
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
        right_context,
        kernel_size,
        expansion=4,
        dropout=0.0,
        precision="float32",
        **kwargs,
    ):
        if right_context < blocks or right_context % blocks:
            raise ValueError(
                f"right_context: received {right_context}, expected a multiple of the {blocks} "
                "block(s), which share it"
            )
        settings = {
            "dim": dim,
            "blocks": blocks,
            "heads": heads,
            "left_context": left_context,
            "right_context": right_context,
            "kernel_size": kernel_size,
            "expansion": expansion,
            "dropout": dropout,
        }
        right = right_context // blocks
        super().__init__(
            AttentionWindow(left_context + right, dim // heads, name="window"),
            conformer_blocks(
                [
                    LookaheadAttention(
                        dim, heads, left_context, right, dropout, precision, name="attention"
                    )
                    for _ in range(blocks)
                ],
                kernel_size,
                expansion,
                dropout,
                precision,
            ),
            settings,
            **kwargs,
        )
        self.delay = right_context


@keras.saving.register_keras_serializable("asr_qat")
class FunnelBlock(BlockStack):
    """One Conformer block that makes ``stride`` frames one (2204.06164).

    Args:
        dim: width.
        heads: attention heads.
        left_context: frames, before pooling, that attention looks back.
        kernel_size: taps of the depthwise convolution, after pooling.
        stride: frames that become one.
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
        stride=2,
        expansion=4,
        dropout=0.0,
        precision="float32",
        **kwargs,
    ):
        settings = {
            "dim": dim,
            "heads": heads,
            "left_context": left_context,
            "kernel_size": kernel_size,
            "stride": stride,
            "expansion": expansion,
            "dropout": dropout,
        }
        attention = FunnelAttention(
            dim, heads, left_context, stride, dropout, precision, name="attention"
        )
        super().__init__(
            FunnelAttentionWindow(left_context, dim // heads, stride, name="window"),
            conformer_blocks([attention], kernel_size, expansion, dropout, precision),
            settings,
            **kwargs,
        )
        self.factor = stride

    def compute_output_shape(self, input_shape):
        """``[batch, time, dim]`` -> ``[batch, time / stride, dim]``."""
        return (input_shape[0], input_shape[1] and input_shape[1] // self.factor, self.dim)
