"""The study's files: exported with their proof, quantized after training, and heard."""

import json
import os
from pathlib import Path
from typing import Any

from grid import BASELINES, Run
from task import Task

from asr_qat.data.audio import load_audio
from asr_qat.export.exporter import export_model
from asr_qat.quantization.spec import policy
from asr_qat.tools.heard import hear
from asr_qat.tools.post_training import quantize_after_training
from asr_qat.training.run import load_model

PROVEN = 50  # utterances of each test set that the exporter proves a file with
CALIBRATION = 100  # training utterances that post-training quantization may see


def evaluate_run(task: Task, run: Run, seed: int, folder: Path) -> None:
    """Exports a trained run and has its files transcribe the test sets.

    Args:
        task: what it recognises.
        run: of the grid.
        seed: for the report.
        folder: of the seed; holds ``<run>/model.keras``.
    """
    for precision in (run.precision, *run.also):
        name = "model" if precision == run.precision else str(precision)
        path = folder / run.name / f"{name}.tflite"
        known = {"model": run.name, "recipe": recipe_name(precision), "method": run.method}
        if not path.exists():
            _export(task, path, precision, run.method)
        _hear(task, path, {**known, "seed": seed})
    if run.name == "float":
        _baselines(task, folder / "float", seed)


def _export(task, path, precision, method):
    loaded = load_model(path.parent / "model.keras")
    rules = policy(precision if isinstance(precision, str) else list(precision))
    if rules != loaded.policy:
        loaded = loaded.with_precision(rules)
    waves = [load_audio(u.audio_filepath) for t in task.tests for u in task.sets[t][:PROVEN]]
    trained = json.loads((path.parent / "run.json").read_text())
    proof = export_model(loaded, path, waves=waves, training=trained)
    write_json(path.with_suffix(".parity.json"), {**proof.to_dict(), "method": method})
    print(
        f"{path}: {proof.layers_bit_equal} of {len(proof.served)} layers bit-equal, "
        f"{proof.transcripts_equal} of {proof.transcripts_total} transcripts equal",
        flush=True,
    )


def _baselines(task, folder, seed):
    heard = task.train[:: len(task.train) // CALIBRATION][:CALIBRATION]
    for algorithm, bits in BASELINES:
        path = folder / f"{algorithm}_{bits}.tflite"
        if not path.exists():
            waves = [load_audio(u.audio_filepath) for u in heard]
            quantize_after_training(folder / "model.tflite", path, bits, algorithm, waves)
        known = {"model": "float", "recipe": f"dynamic_wi{bits}_afp32", "method": algorithm}
        _hear(task, path, {**known, "seed": seed})


def _hear(task, path, known):
    """Transcribes the test sets with a file, unless that was done."""
    result = path.with_suffix(".json")
    if result.exists():
        return
    tests = {}
    for test in task.tests:
        (heard,) = hear(str(path), task.sets[test], threads=1)
        tests[test] = {
            "texts": list(heard.texts),
            "audio_seconds": sum(heard.audio_seconds),
            "processing_seconds": sum(heard.processing_seconds),
        }
    write_json(result, {**known, "bytes": path.stat().st_size, "tests": tests})


def recipe_name(precision: Any) -> str:
    """As the command line would have it."""
    if isinstance(precision, str):
        return precision
    return " ".join(f"{pattern}={recipe}" for pattern, recipe in precision)


def write_json(path: Path, document: Any) -> None:
    """Under a temporary name first."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(partial, path)
