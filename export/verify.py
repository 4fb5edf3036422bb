"""`verify`: does the file compute what the Keras model computes? Layers, encoder, transcripts."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from asr_qat.decoding.transcribe import transcribe
from asr_qat.models.transducer import Transducer
from asr_qat.runtime.model_file import load_model_file
from asr_qat.runtime.recognizer import Recognizer

from .encoder_parity import EncoderParity, compare_encoders
from .layer_parity import LayerParity, StoredWeights, check_layer
from .twin import integer_weight, quantized_layers

ROWS = 64  # input rows compared for each layer
CHUNKS = 24  # audio chunks run through both encoders
FLOAT_TOLERANCE = 1e-3  # of the largest output, for an encoder without integers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """An utterance with two transcripts."""

    name: str
    keras: str
    file: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityReport:
    """All that `verify` found."""

    layers: tuple[LayerParity, ...]
    encoder: EncoderParity
    transcripts_total: int
    differences: tuple[Difference, ...]

    @property
    def layers_bit_equal(self) -> int:
        """Quantized layers whose integers and outputs are identical."""
        return sum(layer.bit_equal for layer in self.layers)

    @property
    def transcripts_equal(self) -> int:
        """Utterances with the same transcript."""
        return self.transcripts_total - len(self.differences)

    @property
    def exact(self) -> bool:
        """Every quantized layer bit-equal; a float encoder within its tolerance."""
        if self.layers:
            return self.layers_bit_equal == len(self.layers)
        return self.encoder.max_difference <= FLOAT_TOLERANCE * max(1.0, self.encoder.max_output)

    @property
    def passed(self) -> bool:
        """`exact`, and every transcript equal."""
        return self.exact and not self.differences

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the counts spelled out."""
        return {
            **dataclasses.asdict(self),
            "layers_bit_equal": self.layers_bit_equal,
            "layers_total": len(self.layers),
            "transcripts_equal": self.transcripts_equal,
            "exact": self.exact,
            "passed": self.passed,
        }


def verify(
    model: Transducer,
    path: str | os.PathLike[str],
    waves: Sequence[np.ndarray] = (),
    names: Sequence[str] = (),
    progress: Callable[[Iterable], Iterable] = iter,
) -> ParityReport:
    """Compares an exported file with the Keras model that it was made from.

    Args:
        model: the Keras model.
        path: the file.
        waves: float32 utterances at the model's rate, whose transcripts are compared; the first
            of them also feed the layers. Without any, the layers get synthetic sounds.
        names: of the utterances, for the report.
        progress: wraps an iterable, to show a bar.

    Raises:
        ModelFileError: if the file is damaged or not ours.
    """
    file = load_model_file(path)
    chunk, tail = file.metadata["chunk_samples"], file.metadata["tail_samples"]
    layers = quantized_layers(model)
    weights = [integer_weight(layer) for layer in layers]
    encoder, rows = compare_encoders(
        model, layers, weights, file.content, _chunks(waves or synthetic_waves(), chunk, tail)
    )
    stored = StoredWeights(file.content)
    results = tuple(
        check_layer(layer, _sample(rows[layer.path]), stored) for layer in progress(layers)
    )
    recognizer = Recognizer(path)
    expected = [recognizer.text(ids) for ids in transcribe(model, waves, tail, chunk)]
    received = [recognizer.transcribe(wave) for wave in progress(waves)]
    names = names or [f"utterance {i}" for i in range(len(waves))]
    pairs = zip(names, expected, received, strict=True)
    differences = tuple(Difference(name=n, keras=a, file=b) for n, a, b in pairs if a != b)
    return ParityReport(
        layers=results,
        encoder=encoder,
        transcripts_total=len(waves),
        differences=differences,
    )


def _chunks(waves, chunk, tail):
    """The first chunks of the utterances in a row, each with its tail."""
    joined = np.concatenate([np.pad(wave, (0, tail)) for wave in waves[:CHUNKS]])
    count = min(CHUNKS, -(-len(joined) // chunk))
    joined = np.pad(joined, (0, max(0, count * chunk - len(joined))))[: count * chunk]
    return list(joined.astype(np.float32).reshape(count, chunk))


def _sample(rows):
    """At most `ROWS` rows, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)]


def synthetic_waves(count: int = 2, seconds: float = 3.0, rate: int = 16000) -> list[np.ndarray]:
    """Sweeps in noise, for a check where no recordings are at hand."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    waves = []
    for i in range(count):
        sweep = np.sin(2 * np.pi * (150 + 400 * i + 300 * time) * time)
        envelope = 0.15 * (1 + np.sin(2 * np.pi * 3 * time))
        noise = 0.01 * rng.normal(size=time.size)
        waves.append((sweep * envelope + noise).astype(np.float32))
    return waves
