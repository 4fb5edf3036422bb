"""The prediction network that a configuration asks for."""

from functools import singledispatch

from asr_qat.layers.embedding_decoder import EmbeddingDecoder
from asr_qat.layers.lstm_decoder import LstmDecoder
from asr_qat.models.configs import EmbeddingDecoderConfig, LstmDecoderConfig


@singledispatch
def make_prediction(config, vocabulary_size: int, precision):
    """A layer ``call(labels) -> [batch, u + 1, dim]``, ``step(label, state)``, with a ``table``."""
    raise ValueError(f"no prediction network for a {type(config).__name__}")


@make_prediction.register
def _(config: EmbeddingDecoderConfig, vocabulary_size, precision):
    return EmbeddingDecoder(
        vocabulary_size,
        config.dim,
        config.history,
        config.heads,
        precision=precision,
        name="prediction",
    )


@make_prediction.register
def _(config: LstmDecoderConfig, vocabulary_size, precision):
    return LstmDecoder(
        vocabulary_size, config.dim, config.units, precision=precision, name="prediction"
    )
