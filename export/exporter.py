"""A trained model to one self-contained, verified .tflite file."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr_qat import __version__
from asr_qat.models.transducer import Transducer

from .build import build, float16_served
from .ends import described_end
from .flatbuffer import ExportError, read_model
from .int_weights import storage_bits
from .lowering import weighted_layers
from .metadata import attach
from .recognize_chunk import ending
from .signature import Signature, described
from .signatures import (
    chunk_signatures,
    decoder_signatures,
    utterance_signature,
)
from .verify import ParityReport, verify

TAIL_MS = 320  # silence after an utterance, in which its last label can still be emitted


def export_model(
    model: Transducer,
    path: str | os.PathLike[str],
    *,
    chunk_ms: int | Sequence[int] | None = None,
    utterance: bool = False,
    float16: bool = False,
    waves: Sequence[np.ndarray] = (),
    training: dict[str, Any] | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> ParityReport:
    """Writes the file, with its proof inside; a file that fails the proof is not left behind.

    Args:
        model: any precision; the file gets the integers that its training step multiplies.
        path: of the .tflite file.
        chunk_ms: audio of one encoder call, a multiple of an encoder frame (40, but for models
            that pool frames); or several of them, which share all weights: the first is the one
            that a recogniser uses by default. By default 320, or the next multiple.
        utterance: whether to add the encoder of a whole utterance, of any length.
        float16: whether to store as float16 what stays float; the proof is of the model with
            its float weights rounded so.
        waves: utterances that the proof runs on, and whose transcripts it compares; without any
            it runs on synthetic sounds.
        training: a record of the training, kept in the file.
        progress: wraps an iterable, to show a bar.

    Returns:
        The parity report, which is also in the file.

    Raises:
        ExportError: if a layer has no kernel to run it, or the file fails its verification.
        RangeError: if a static layer's activation ranges were never observed.
        ValueError: if a chunk is no multiple of an encoder frame.
    """
    path = Path(path)
    layers = weighted_layers(model)
    chunks = chunks_of(model, chunk_ms)
    signatures = recognizer_signatures(model, chunks, utterance)
    temporary = path.with_name(f".{path.name}.partial")
    with float16_served(model, layers, float16):
        content = build(signatures, layers, model.variables, float16)
        metadata = {
            **_description(model, layers, chunks, float16),
            "signatures": described(read_model(content)),
            "training": training or {},
            "parity": None,
        }
        try:
            temporary.write_bytes(attach(content, metadata))
            report = verify(model, temporary, waves, progress=progress)
            if not report.exact:
                found = report.first_failure()
                raise ExportError(f"{path}: not written, because it fails its proof: {found}")
            metadata["parity"] = report.to_dict()
            temporary.write_bytes(attach(content, metadata))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return report


def chunks_of(model: Transducer, chunk_ms: int | Sequence[int] | None) -> dict[str, int]:
    """Samples of each chunk size by the suffix of its signatures' names; the first has none."""
    chunk_ms = default_chunk_ms(model) if chunk_ms is None else chunk_ms
    sizes = [chunk_ms] if isinstance(chunk_ms, int) else list(dict.fromkeys(chunk_ms))
    if not sizes:
        raise ValueError("chunk_ms: received no size, expected at least one")
    rate = model.config.frontend.sample_rate
    samples = {f"_{ms}ms" if i else "": rate * ms // 1000 for i, ms in enumerate(sizes)}
    frame = model.frame_samples
    for ms, count in zip(sizes, samples.values(), strict=True):
        if count < frame or count % frame:
            raise ValueError(
                f"chunk_ms: received {ms}; expected a multiple of {1000 * frame // rate} (an "
                "encoder frame)"
            )
    return samples


def default_chunk_ms(model: Transducer) -> int:
    """The first multiple of an encoder frame from 320 milliseconds on."""
    frame = 1000 * model.frame_samples // model.config.frontend.sample_rate
    return -(-320 // frame) * frame


def recognizer_signatures(
    model: Transducer, chunks: dict[str, int], utterance: bool
) -> list[Signature]:
    """All functions of the file."""
    signatures = [s for suffix, n in chunks.items() for s in chunk_signatures(model, n, suffix)]
    signatures += decoder_signatures(model)
    return [*signatures, utterance_signature(model)] if utterance else signatures


def _description(model, layers, chunks, float16):
    rate = model.config.frontend.sample_rate
    vocabulary = {
        "kind": model.tokenizer_config.get("kind", "characters"),
        "pieces": list(model.tokenizer_config["pieces"]),
    }
    if "model_proto" in model.tokenizer_config:  # the serialized SentencePiece model, in base64
        vocabulary["model_proto"] = model.tokenizer_config["model_proto"]
    return {
        "format": 1,
        "producer": f"asr_qat {__version__}",
        "sample_rate": rate,
        "chunk_samples": next(iter(chunks.values())),
        "chunks": chunks,
        "tail_samples": rate * TAIL_MS // 1000,
        "max_symbols_per_frame": model.config.max_symbols_per_frame,
        "features": dict(model.frontend.settings),
        "vocabulary": vocabulary,
        "passes": [
            {
                "name": one.name,
                "ending": ending(model, one.name),
                "encoders": [stage.name for stage in one.stages],
                "prediction": one.prediction.name,
                "joint": one.joint.name,
                "delay": one.delay,  # frames
            }
            for one in model.passes
        ],
        "ends": [described_end(end) for end in model.ends],
        "model": model.config.to_dict(),
        "recipe": {
            "rules": model.policy.to_list(),
            "float_storage": "float16" if float16 else "float32",
            "layers": precision_table(layers),
        },
    }


def precision_table(layers: Sequence[Any]) -> list[dict[str, Any]]:
    """Path, shape, recipe, bits and activation of every layer."""
    return [
        {
            "path": layer.path,
            "shape": list(layer.kernel.shape),
            "recipe": layer.recipe_name,
            "bits": layer.spec.weight.bits if layer.spec.weight else _float_bits(layer),
            "stored_bits": storage_bits(layer.spec.weight.bits)
            if layer.spec.weight
            else _float_bits(layer),
            "activation": layer.spec.activation,
        }
        for layer in layers
    ]


def _float_bits(layer):
    return 16 if layer.spec.storage == "float16" else 32
