"""The prediction network that a configuration asks for."""

import dataclasses
from functools import singledispatch

from asr_qat.layers.embedding_decoder import EmbeddingDecoder
from asr_qat.layers.recurrent_decoder import RecurrentDecoder
from asr_qat.models.configs import (
    ConformerDecoderConfig,
    EmbeddingDecoderConfig,
    RecurrentDecoderConfig,
    TransformerDecoderConfig,
)
from asr_qat.models.stack import ConformerStack, TransformerStack
from asr_qat.models.stack_decoder import StackDecoder


@singledispatch
def make_prediction(config, vocabulary_size: int, precision, name: str):
    """A layer ``call(labels) -> [batch, u + 1, dim]``, ``step(label, state)``, with a ``table``."""
    raise ValueError(f"no prediction network for a {type(config).__name__}")


@make_prediction.register
def _(config: EmbeddingDecoderConfig, vocabulary_size, precision, name):
    sizes = dataclasses.asdict(config)
    return EmbeddingDecoder(vocabulary_size, **sizes, precision=precision, name=name)


@make_prediction.register
def _(config: RecurrentDecoderConfig, vocabulary_size, precision, name):
    sizes = dataclasses.asdict(config)
    return RecurrentDecoder(vocabulary_size, **sizes, precision=precision, name=name)


@make_prediction.register
def _(config: TransformerDecoderConfig, vocabulary_size, precision, name):
    stack = TransformerStack(**dataclasses.asdict(config), precision=precision, name="stack")
    return StackDecoder(vocabulary_size, stack, name=name)


@make_prediction.register
def _(config: ConformerDecoderConfig, vocabulary_size, precision, name):
    stack = ConformerStack(**dataclasses.asdict(config), precision=precision, name="stack")
    return StackDecoder(vocabulary_size, stack, name=name)
