"""A trained model to one self-contained, verified .tflite file."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr_qat import __version__
from asr_qat.models.transducer import Transducer

from .convert import convert
from .flatbuffer import ExportError
from .int_weights import rewrite, storage_bits
from .metadata import attach
from .signatures import transducer_signatures
from .twin import float_twin
from .verify import ParityReport, verify

TAIL_MS = 320  # silence after an utterance, in which its last label can still be emitted


def export_model(
    model: Transducer,
    path: str | os.PathLike[str],
    *,
    chunk_ms: int = 320,
    waves: Sequence[np.ndarray] = (),
    training: dict[str, Any] | None = None,
) -> ParityReport:
    """Writes the file, with its proof inside; a file that fails the proof is not left behind.

    Args:
        model: any precision; the file gets the integers that its training step multiplies.
        path: of the .tflite file.
        chunk_ms: audio of one encoder call, a multiple of 40.
        waves: utterances that the proof runs on, and whose transcripts it compares; without any
            it runs on synthetic sounds.
        training: a record of the training, kept in the file.

    Returns:
        The parity report, which is also in the file.

    Raises:
        ExportError: if a layer has no kernel to run it, or the file fails its verification.
        ValueError: if the chunk is no multiple of an encoder frame.
    """
    path = Path(path)
    check_exportable(model)
    twin, weights = float_twin(model)
    rate = model.config.frontend.sample_rate
    chunk_samples = rate * chunk_ms // 1000
    signatures = transducer_signatures(twin, chunk_samples)
    converted = convert(signatures, [v.value for v in twin.variables])
    content = rewrite(converted, weights)
    metadata = {
        "format": 1,
        "producer": f"asr_qat {__version__}",
        "sample_rate": rate,
        "chunk_samples": chunk_samples,
        "tail_samples": rate * TAIL_MS // 1000,
        "max_symbols_per_frame": model.config.max_symbols_per_frame,
        "features": dict(model.frontend.settings),
        "vocabulary": {
            "kind": model.tokenizer_config.get("kind", "characters"),
            "pieces": list(model.tokenizer_config["pieces"]),
        },
        "model": model.config.to_dict(),
        "recipe": {"rules": model.policy.to_list(), "layers": precision_table(model)},
        "training": training or {},
        "parity": None,
    }
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(attach(content, metadata))
        report = verify(model, temporary, waves)
        if not report.exact:
            raise ExportError(f"{path}: not written, because it fails its proof: {failure(report)}")
        metadata["parity"] = report.to_dict()
        temporary.write_bytes(attach(content, metadata))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return report


def failure(report: ParityReport) -> str:
    """The first thing that a failed report found."""
    for layer in report.layers:
        if not layer.bit_equal:
            return f"layer {layer.path} differs: {dataclasses.asdict(layer)}"
    return f"the encoders differ by {report.encoder.max_difference:.2e}"


def precision_table(model: Transducer) -> list[dict[str, Any]]:
    """Path, shape, recipe, bits and activation of every dense layer."""
    return [
        {
            "path": layer.path,
            "shape": list(layer.kernel.shape),
            "recipe": layer.recipe_name,
            "bits": layer.spec.weight.bits if layer.spec.weight else 32,
            "stored_bits": storage_bits(layer.spec.weight.bits) if layer.spec.weight else 32,
            "activation": layer.spec.activation,
        }
        for layer in sorted(model.dense_layers(), key=lambda layer: layer.path)
    ]


def check_exportable(model: Transducer) -> None:
    """Raises `ExportError` for a recipe that trains but that no TFLite kernel computes."""
    for layer in model.dense_layers():
        if layer.spec.weight and layer.spec.activation in ("float", "four_bit_rows"):
            raise ExportError(
                f"{layer.path}: recipe {layer.recipe_name} trains, but cannot be exported yet; "
                "expected a dynamic_wi*_afp32 recipe or float32"
            )
