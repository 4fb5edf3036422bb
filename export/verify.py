"""`verify`: does the file compute what the Keras model computes? Layers, encoder, transcripts."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from asr_qat.decoding.transcribe import transcribe
from asr_qat.layers.convolution import CausalDepthwiseConvolution
from asr_qat.models.transducer import Transducer
from asr_qat.runtime.model_file import load_recognizer_file
from asr_qat.runtime.recognizer import Recognizer

from .lowering import weighted_layers
from .parity.depthwise_parity import check_depthwise
from .parity.encoder_parity import EncoderParity, compare_encoders
from .parity.graph_search import recognize
from .parity.kernels import Target
from .parity.layer_parity import LayerParity, StoredWeights, check_layer

ROWS = 64  # input rows compared for each layer on the engine that serves it
OTHER_ROWS = 8  # and on the others
CHUNKS = 24  # audio chunks run through both encoders
OTHER_WAVES = 20  # utterances recognised on the engines that do not serve the file
FLOAT_TOLERANCE = 1e-3  # of the largest output, for an encoder without integers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """An utterance with two transcripts."""

    name: str
    keras: str
    file: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranscriptParity:
    """Transcripts of the file on one engine against those of Keras."""

    target: str
    recognition: str  # the pass
    search: str  # "steps": signature by signature; "graph": recognize_chunk
    total: int
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> int:
        """Utterances with the same transcript."""
        return self.total - len(self.differences)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityReport:
    """All that `verify` found; the first target is the one that serves the file."""

    layers: tuple[LayerParity, ...]  # every layer on every target
    encoders: tuple[EncoderParity, ...]  # on every target
    transcripts: tuple[TranscriptParity, ...]

    @property
    def encoder(self) -> EncoderParity:
        """The encoder on the serving target."""
        return self.encoders[0]

    def layers_on(self, target: str) -> list[LayerParity]:
        """The layers on one target."""
        return [layer for layer in self.layers if layer.target == target]

    @property
    def served(self) -> list[LayerParity]:
        """The layers on the serving target."""
        return self.layers_on(self.encoder.target)

    @property
    def layers_bit_equal(self) -> int:
        """Layers with all that is owed identical, on the serving target."""
        return sum(layer.bit_equal for layer in self.served)

    @property
    def served_transcripts(self) -> list[TranscriptParity]:
        """Those on the serving target, step by step first where that is it."""
        return [t for t in self.transcripts if t.target == self.encoder.target]

    @property
    def _first_search(self) -> list[TranscriptParity]:
        """All passes on the serving target, by one search."""
        search = self.served_transcripts[0].search
        return [t for t in self.served_transcripts if t.search == search]

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Utterances that the serving target transcribes differently, in any pass."""
        return tuple(d for t in self._first_search for d in t.differences)

    @property
    def transcripts_total(self) -> int:
        """Transcripts compared on the serving target, of all passes."""
        return sum(t.total for t in self._first_search)

    @property
    def transcripts_equal(self) -> int:
        """Of those, the ones that are the same."""
        return sum(t.equal for t in self._first_search)

    @property
    def exact(self) -> bool:
        """Every layer bit-equal on every target; a float encoder within its tolerance."""
        if not all(layer.bit_equal for layer in self.layers):
            return False
        if self.encoder.codes_total:
            return True
        return self.encoder.max_difference <= FLOAT_TOLERANCE * max(1.0, self.encoder.max_output)

    @property
    def passed(self) -> bool:
        """`exact`, and every transcript of the serving target equal."""
        return self.exact and not any(t.differences for t in self.served_transcripts)

    def first_failure(self) -> str:
        """The first thing that a report which is not exact found."""
        for layer in self.layers:
            if not layer.bit_equal:
                return f"layer {layer.path} differs: {dataclasses.asdict(layer)}"
        return f"the encoders differ by {self.encoder.max_difference:.2e}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the counts spelled out."""
        return {
            **dataclasses.asdict(self),
            "encoder": dataclasses.asdict(self.encoder),
            "layers_bit_equal": self.layers_bit_equal,
            "layers_total": len(self.served),
            "differences": [dataclasses.asdict(d) for d in self.differences],
            "transcripts_total": self.transcripts_total,
            "transcripts_equal": self.transcripts_equal,
            "exact": self.exact,
            "passed": self.passed,
        }


def targets_of(layers: Sequence[Any]) -> list[Target]:
    """The engines that a file is checked on; the one that its layers were trained for first."""
    wanted = {Target.here(layer.spec.activation) for layer in layers if layer.spec.weight}
    first = Target.BUILTIN if wanted == {Target.BUILTIN} else Target.here()
    return [first, *(t for t in (Target.here(), Target.BUILTIN, Target.REFERENCE) if t != first)]


def verify(
    model: Transducer,
    path: str | os.PathLike[str],
    waves: Sequence[np.ndarray] = (),
    names: Sequence[str] = (),
    progress: Callable[[Iterable], Iterable] = iter,
) -> ParityReport:
    """Compares an exported file with the Keras model that it was made from.

    Args:
        model: the Keras model; for a file with float16 storage, with its float weights rounded
            (`build.float16_served`).
        path: the file.
        waves: float32 utterances at the model's rate, whose transcripts are compared; the first
            of them also feed the layers. Without any, the layers get synthetic sounds.
        names: of the utterances, for the report.
        progress: wraps an iterable, to show a bar.

    Raises:
        ModelFileError: if the file is damaged or not ours.
    """
    file = load_recognizer_file(path)
    chunk, tail = file.metadata["chunk_samples"], file.metadata["tail_samples"]
    layers = model.dense_layers()
    targets = targets_of(layers)
    encoders, rows = compare_encoders(
        model, layers, file.content, _chunks(waves or synthetic_waves(), chunk, tail), targets
    )
    stored = StoredWeights(file.content)
    pairs = [(layer, target) for target in targets for layer in layers if layer.path in rows]
    results = tuple(
        check_layer(
            layer,
            _sample(rows[layer.path], ROWS if target is targets[0] else OTHER_ROWS),
            stored,
            target,
        )
        for layer, target in progress(pairs)
    )
    results += tuple(
        check_depthwise(layer, file.content, targets[0])
        for layer in weighted_layers(model)
        if isinstance(layer, CausalDepthwiseConvolution)
    )
    recognizer = Recognizer(path)
    expected = [
        [recognizer.text(ids) for ids in each] for each in transcribe(model, waves, tail, chunk)
    ]
    names = names or [f"utterance {i}" for i in range(len(waves))]

    def compared(received, target, search):
        return [
            TranscriptParity(
                target=target.value,
                recognition=one.name,
                search=search,
                total=len(texts),
                differences=tuple(
                    Difference(name=n, keras=a, file=b)
                    for n, a, b in zip(names, wanted, texts, strict=False)
                    if a != b
                ),
            )
            for one, wanted, texts in zip(model.passes, expected, received, strict=True)
        ]

    def in_graph(target):
        heard = waves if target is targets[0] else waves[:OTHER_WAVES]
        found = recognize(file, progress(heard), target)
        texts = [[recognizer.text(ids) for ids in each] for each in found]
        return compared(texts, target, "graph")

    streams = [recognizer.transcribe_all(wave) for wave in progress(waves)]
    steps = [[texts[i] for texts in streams] for i in range(len(model.passes))]
    transcripts = compared(steps, Target.here(), "steps")
    for target in targets:
        transcripts += in_graph(target)
    return ParityReport(layers=results, encoders=encoders, transcripts=tuple(transcripts))


def _chunks(waves, chunk, tail):
    """The first chunks of the utterances in a row, each with its tail."""
    joined = np.concatenate([np.pad(wave, (0, tail)) for wave in waves[:CHUNKS]])
    count = min(CHUNKS, -(-len(joined) // chunk))
    joined = np.pad(joined, (0, max(0, count * chunk - len(joined))))[: count * chunk]
    return list(joined.astype(np.float32).reshape(count, chunk))


def _sample(rows, most):
    """At most so many rows, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


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
