"""Named configurations. Parameter counts are in docs/models.md, for 1,024 labels.

Published sizes: Conformer S, M and L of 2005.08100 (10.3, 30.7 and 118.8 million parameters); the
LSTM recogniser of 1909.12408 (122.1 million with 4,096 labels).
"""

from collections.abc import Callable
from typing import NamedTuple

from asr_qat.models.configs import (
    ConformerConfig,
    ConformerDecoderConfig,
    ConformerStageConfig,
    EmbeddingDecoderConfig,
    EndJointConfig,
    EndpointerConfig,
    FrontendConfig,
    FunnelStageConfig,
    JointConfig,
    LookaheadStageConfig,
    LossConfig,
    RecurrentConfig,
    RecurrentDecoderConfig,
    SpecAugmentConfig,
    TransducerConfig,
    TransformerConfig,
    TransformerDecoderConfig,
)


def nano() -> TransducerConfig:
    """A model for tests: builds and trains in seconds, recognises nothing."""
    return TransducerConfig(
        encoder=ConformerConfig(dim=32, blocks=1, heads=2, left_context=8, kernel_size=5),
        prediction=EmbeddingDecoderConfig(dim=32),
        joint=JointConfig(dim=32),
    )


def nano_transformer() -> TransducerConfig:
    """For tests: a Transformer encoder and a Transformer over the labels."""
    return TransducerConfig(
        encoder=TransformerConfig(dim=32, blocks=1, heads=2, left_context=8),
        prediction=TransformerDecoderConfig(dim=32, blocks=1, heads=2, left_context=4),
        joint=JointConfig(dim=32),
    )


def nano_lstm() -> TransducerConfig:
    """For tests: LSTM layers on both sides, layer norm, untied."""
    return TransducerConfig(
        encoder=RecurrentConfig(units=48, projection=32, layers=3),
        prediction=RecurrentDecoderConfig(
            embedding=16, units=48, projection=32, layers=2, layer_norm=True
        ),
        joint=JointConfig(dim=24, tied=False),
    )


def nano_cifg_sru() -> TransducerConfig:
    """For tests: a CIFG encoder, an SRU prediction network; HAT's blank, and all losses."""
    return TransducerConfig(
        encoder=RecurrentConfig(cell="cifg", units=48, projection=32, layers=2, reduce_after=1),
        prediction=RecurrentDecoderConfig(embedding=16, cell="sru", units=48, projection=32),
        joint=JointConfig(dim=32, tied=False, distribution="factorized_blank"),
        loss=LossConfig(fast_emit=0.01, ctc_weight=0.3, pruned_labels=3),
    )


def nano_conformer_decoder() -> TransducerConfig:
    """For tests: a Conformer over the labels, an embedding for each."""
    return TransducerConfig(
        encoder=ConformerConfig(dim=32, blocks=1, heads=2, left_context=8, kernel_size=5),
        prediction=ConformerDecoderConfig(dim=32, heads=2, left_context=4),
        joint=JointConfig(dim=32),
    )


def nano_cascaded() -> TransducerConfig:
    """For tests: a causal pass and one that looks 240 ms ahead, one decoder."""
    return TransducerConfig(
        encoder=ConformerConfig(dim=32, blocks=1, heads=2, left_context=8, kernel_size=5),
        cascade=(
            LookaheadStageConfig(
                name="second", blocks=2, heads=2, left_context=8, right_context=6, kernel_size=5
            ),
        ),
        passes=("encoder", "second"),
        prediction=EmbeddingDecoderConfig(dim=32),
        joint=JointConfig(dim=32),
    )


def nano_dynamic() -> TransducerConfig:
    """For tests: three sizes in one, a decoder for each."""
    sizes = {"heads": 2, "left_context": 8, "kernel_size": 5}
    return TransducerConfig(
        encoder=ConformerConfig(dim=32, blocks=1, **sizes),
        cascade=(
            FunnelStageConfig(name="small", **sizes),
            ConformerStageConfig(name="medium", blocks=1, **sizes),
            LookaheadStageConfig(name="large", blocks=1, right_context=3, **sizes),
        ),
        passes=("small", "medium", "large"),
        separate_decoders=True,
        path_training="summed",
        prediction=EmbeddingDecoderConfig(dim=32),
        joint=JointConfig(dim=32),
    )


def nano_ends() -> TransducerConfig:
    """For tests: two passes; lower layers with an endpointer, joints for both kinds of ends."""
    sizes = {"heads": 2, "left_context": 8, "kernel_size": 5}
    return TransducerConfig(
        encoder=ConformerConfig(dim=32, blocks=1, **sizes),
        cascade=(
            ConformerStageConfig(name="first", blocks=1, **sizes),
            LookaheadStageConfig(name="second", blocks=1, right_context=3, **sizes),
        ),
        passes=("first", "second"),
        path_training="summed",
        prediction=EmbeddingDecoderConfig(dim=32),
        joint=JointConfig(dim=32),
        ends=(
            EndpointerConfig(hidden=16),
            EndJointConfig(name="eou", reads="first", dim=32),
            EndJointConfig(name="eos", reads="first", marks="segment", dim=32),
        ),
    )


def digits() -> TransducerConfig:
    """The demonstration's model: 1.9 M parameters, enough for strings of digits."""
    return TransducerConfig(
        spec_augment=SpecAugmentConfig(time_masks=1, time_width=8, frequency_width=12),
        encoder=ConformerConfig(dim=192, blocks=2, kernel_size=9, dropout=0.05),
        prediction=EmbeddingDecoderConfig(dim=128),
        joint=JointConfig(dim=128),
    )


def tiny() -> TransducerConfig:
    """6.5 M parameters: small vocabularies, real recordings."""
    return TransducerConfig(
        encoder=ConformerConfig(dim=256, blocks=4, left_context=64),
        prediction=EmbeddingDecoderConfig(dim=256),
        joint=JointConfig(dim=256),
    )


def _conformer(dim, blocks, heads, units, subsampling_expansion) -> TransducerConfig:
    """Conformer blocks and an LSTM over the labels.

    The publication's two-dimensional convolutions are convolutions over time here, made of dense
    products, as wide as its parameter counts leave room for; positions are rotary, convolutions
    causal.
    """
    return TransducerConfig(
        encoder=ConformerConfig(
            dim=dim, blocks=blocks, heads=heads, subsampling_expansion=subsampling_expansion
        ),
        prediction=RecurrentDecoderConfig(embedding=units, units=units, projection=0),
        joint=JointConfig(dim=640, tied=False),
    )


def conformer_s() -> TransducerConfig:
    """Conformer S, 10.3 M parameters: width 144, 16 blocks."""
    return _conformer(144, 16, 4, 320, 4)


def conformer_m() -> TransducerConfig:
    """Conformer M, 30.7 M parameters: width 256, 16 blocks."""
    return _conformer(256, 16, 4, 640, 4)


def conformer_l() -> TransducerConfig:
    """Conformer L, 118.8 M parameters: width 512, 17 blocks."""
    return _conformer(512, 17, 8, 640, 12)


def _streaming(dim, blocks, heads) -> TransducerConfig:
    """The same blocks with little else: narrow subsampling, the tied embedding decoder."""
    return TransducerConfig(
        encoder=ConformerConfig(dim=dim, blocks=blocks, heads=heads),
        prediction=EmbeddingDecoderConfig(dim=256),
        joint=JointConfig(dim=256),
    )


def streaming_s() -> TransducerConfig:
    """The blocks of Conformer S with the patent's embedding decoder."""
    return _streaming(144, 16, 4)


def streaming_m() -> TransducerConfig:
    """The blocks of Conformer M with the patent's embedding decoder."""
    return _streaming(256, 16, 4)


def streaming_l() -> TransducerConfig:
    """The blocks of Conformer L with the patent's embedding decoder."""
    return _streaming(512, 17, 8)


def transformer() -> TransducerConfig:
    """A Transformer encoder of the width of Conformer M."""
    return TransducerConfig(
        encoder=TransformerConfig(dim=256, blocks=18),
        prediction=EmbeddingDecoderConfig(dim=256),
        joint=JointConfig(dim=256),
    )


def _edge(encoder_cell, decoder_cell) -> TransducerConfig:
    """Eight recurrent layers, two over the labels (1909.12408); 122.1 M with LSTM cells."""
    return TransducerConfig(
        frontend=FrontendConfig(mel_bins=128, window_ms=32.0),
        encoder=RecurrentConfig(cell=encoder_cell, units=2048, projection=640, layers=8),
        prediction=RecurrentDecoderConfig(
            embedding=128, cell=decoder_cell, units=2048, projection=640, layers=2, layer_norm=True
        ),
        joint=JointConfig(dim=640, tied=False),
    )


def lstm() -> TransducerConfig:
    """The Edge paper's baseline: LSTM encoder and LSTM prediction network."""
    return _edge("lstm", "lstm")


def cifg_sru() -> TransducerConfig:
    """The Edge paper's light cells: CIFG encoder, SRU prediction network."""
    return _edge("cifg", "sru")


def cascaded() -> TransducerConfig:
    """Cascaded encoders: 12 causal blocks, then 4 that look 880 ms ahead; one decoder."""
    return TransducerConfig(
        encoder=ConformerConfig(dim=256, blocks=12),
        cascade=(LookaheadStageConfig(name="second", blocks=2, right_context=22),),
        passes=("encoder", "second"),
        prediction=EmbeddingDecoderConfig(dim=256),
        joint=JointConfig(dim=256),
    )


def dynamic() -> TransducerConfig:
    """A dynamic cascade: small, medium and large are prefixes of one stack (2204.06164)."""
    return TransducerConfig(
        encoder=ConformerConfig(dim=256, blocks=3),
        cascade=(
            FunnelStageConfig(name="funnel"),
            ConformerStageConfig(name="small", blocks=3, left_context=16, kernel_size=9),
            ConformerStageConfig(name="medium", blocks=5, left_context=16, kernel_size=9),
            LookaheadStageConfig(
                name="large", blocks=4, left_context=16, right_context=12, kernel_size=9
            ),
        ),
        passes=("small", "medium", "large"),
        separate_decoders=True,
        path_training="summed",
        prediction=EmbeddingDecoderConfig(dim=256),
        joint=JointConfig(dim=256),
    )


PRESETS: dict[str, Callable[[], TransducerConfig]] = {
    function.__name__: function
    for function in (
        nano,
        nano_transformer,
        nano_lstm,
        nano_cifg_sru,
        nano_conformer_decoder,
        nano_cascaded,
        nano_dynamic,
        nano_ends,
        digits,
        tiny,
        conformer_s,
        conformer_m,
        conformer_l,
        streaming_s,
        streaming_m,
        streaming_l,
        transformer,
        lstm,
        cifg_sru,
        cascaded,
        dynamic,
    )
}


class Published(NamedTuple):
    """What a publication says of a model of this structure."""

    parameters: int
    labels: int  # of the published model


PUBLISHED = {
    "conformer_s": Published(10_300_000, 1024),
    "conformer_m": Published(30_700_000, 1024),
    "conformer_l": Published(118_800_000, 1024),
    "lstm": Published(122_100_000, 4096),
}


def preset(name: str) -> TransducerConfig:
    """The configuration of a named preset.

    Raises:
        ValueError: if there is no preset of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; expected one of: {', '.join(PRESETS)}")
    return PRESETS[name]()
