"""Sizes of models: frozen configurations with units, and presets as functions."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontendConfig:
    """Log-mel features."""

    sample_rate: int = 16000  # Hz
    window_ms: float = 25.0  # milliseconds
    hop_ms: float = 10.0  # milliseconds
    mel_bins: int = 80  # features a frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig:
    """Masks on the features, in training."""

    time_masks: int = 2
    time_width: int = 10  # frames of 10 ms, at most
    frequency_masks: int = 2
    frequency_width: int = 15  # mel bins, at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Streaming Conformer."""

    dim: int = 144  # width
    blocks: int = 4
    heads: int = 4
    left_context: int = 32  # encoder frames of 40 ms that attention looks back
    kernel_size: int = 15  # taps of the depthwise convolution, in encoder frames
    expansion: int = 4  # feed-forward width over dim
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingDecoderConfig:
    """The patent's prediction network."""

    dim: int = 128  # embeddings, output and joint
    history: int = 2  # labels looked back on
    heads: int = 4  # position vectors a label


@dataclasses.dataclass(frozen=True, kw_only=True)
class LstmDecoderConfig:
    """The recurrent prediction network."""

    dim: int = 128  # embeddings, output and joint
    units: int = 256  # width of the LSTM


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransducerConfig:
    """A whole recogniser but for its vocabulary and its precision."""

    frontend: FrontendConfig = FrontendConfig()
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()
    encoder: EncoderConfig = EncoderConfig()
    prediction: EmbeddingDecoderConfig | LstmDecoderConfig = EmbeddingDecoderConfig()
    max_symbols_per_frame: int = 5  # labels that greedy search emits in a frame, at most

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the prediction network is tagged with its kind."""
        tagged = dataclasses.asdict(self)
        tagged["prediction"]["kind"] = _KIND_OF[type(self.prediction)]
        return tagged

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TransducerConfig":
        """The inverse of `to_dict`.

        Raises:
            ValueError: for an unknown kind of prediction network.
        """
        prediction = dict(values["prediction"])
        kind = prediction.pop("kind", None)
        if kind not in _PREDICTION_OF:
            raise ValueError(f"prediction kind {kind!r}; expected one of {list(_PREDICTION_OF)}")
        return cls(
            frontend=FrontendConfig(**values["frontend"]),
            spec_augment=SpecAugmentConfig(**values["spec_augment"]),
            encoder=EncoderConfig(**values["encoder"]),
            prediction=_PREDICTION_OF[kind](**prediction),
            max_symbols_per_frame=values["max_symbols_per_frame"],
        )


_PREDICTION_OF: dict[str, Any] = {"embedding": EmbeddingDecoderConfig, "lstm": LstmDecoderConfig}
_KIND_OF = {cls: kind for kind, cls in _PREDICTION_OF.items()}


def nano() -> TransducerConfig:
    """A model for tests: builds and trains in seconds, recognises nothing."""
    return TransducerConfig(
        encoder=EncoderConfig(dim=32, blocks=1, heads=2, left_context=8, kernel_size=5),
        prediction=EmbeddingDecoderConfig(dim=32),
    )


def digits() -> TransducerConfig:
    """The demonstration's model: 1.9 M parameters, enough for strings of digits."""
    return TransducerConfig(
        spec_augment=SpecAugmentConfig(time_masks=1, time_width=8, frequency_width=12),
        encoder=EncoderConfig(dim=192, blocks=2, kernel_size=9, dropout=0.05),
        prediction=EmbeddingDecoderConfig(dim=128),
    )


def tiny() -> TransducerConfig:
    """6.5 M parameters: small vocabularies, real recordings."""
    return TransducerConfig(
        encoder=EncoderConfig(dim=256, blocks=4, left_context=64),
        prediction=EmbeddingDecoderConfig(dim=256),
    )


def _conformer(dim, blocks, heads) -> TransducerConfig:
    """The sizes of 2005.08100 in streaming form, with the tied embedding decoder."""
    return TransducerConfig(
        encoder=EncoderConfig(dim=dim, blocks=blocks, heads=heads),
        prediction=EmbeddingDecoderConfig(dim=256),
    )


def conformer_s() -> TransducerConfig:
    """Conformer S: width 144, 16 blocks."""
    return _conformer(144, 16, 4)


def conformer_m() -> TransducerConfig:
    """Conformer M: width 256, 16 blocks."""
    return _conformer(256, 16, 4)


def conformer_l() -> TransducerConfig:
    """Conformer L: width 512, 17 blocks."""
    return _conformer(512, 17, 8)


PRESETS = {
    "nano": nano,
    "digits": digits,
    "tiny": tiny,
    "conformer_s": conformer_s,
    "conformer_m": conformer_m,
    "conformer_l": conformer_l,
}


def preset(name: str) -> TransducerConfig:
    """The configuration of a named preset.

    Raises:
        ValueError: if there is no preset of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; expected one of: {', '.join(PRESETS)}")
    return PRESETS[name]()
