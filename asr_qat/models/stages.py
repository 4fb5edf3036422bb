"""The encoder and the further stages that a configuration asks for."""

import dataclasses
from functools import singledispatch
from typing import Any

from asr_qat.layers.base import StreamingLayer
from asr_qat.models.configs import (
    ConformerConfig,
    ConformerStageConfig,
    FunnelStageConfig,
    LookaheadStageConfig,
    RecurrentConfig,
    TransformerConfig,
)
from asr_qat.models.encoder import Encoder
from asr_qat.models.recurrent_encoder import RecurrentEncoder
from asr_qat.models.stack import ConformerStack, FunnelBlock, LookaheadStack, TransformerStack


@singledispatch
def make_encoder(config, precision) -> StreamingLayer:
    """A layer from features to frames, with ``factor`` and ``dim``, named ``encoder``."""
    raise ValueError(f"no encoder for a {type(config).__name__}")


def _subsampled(config, stack_class, precision):
    sizes = dataclasses.asdict(config)
    width = sizes.pop("subsampling_expansion") * config.dim
    stack = stack_class(**sizes, precision=precision, name="stack")
    return Encoder(stack, width, config.dropout, precision, name="encoder")


@make_encoder.register
def _(config: ConformerConfig, precision):
    return _subsampled(config, ConformerStack, precision)


@make_encoder.register
def _(config: TransformerConfig, precision):
    return _subsampled(config, TransformerStack, precision)


@make_encoder.register
def _(config: RecurrentConfig, precision):
    return RecurrentEncoder(**dataclasses.asdict(config), precision=precision, name="encoder")


STAGES: dict[type, type] = {
    ConformerStageConfig: ConformerStack,
    LookaheadStageConfig: LookaheadStack,
    FunnelStageConfig: FunnelBlock,
}


def make_stage(config: Any, dim: int, precision) -> StreamingLayer:
    """A layer from frames to frames of the same width, named ``encoder_<name>``."""
    sizes = dataclasses.asdict(config)
    name = f"encoder_{sizes.pop('name')}"
    return STAGES[type(config)](dim=dim, **sizes, precision=precision, name=name)
