"""Transcripts by `recognize_chunk`, the whole recogniser in one signature, on any engine."""

from collections.abc import Iterable

import numpy as np

from asr_qat.runtime.model_file import ModelFile

from ..recognize_chunk import FLUSH
from .kernels import Target


def recognize(
    file: ModelFile, waves: Iterable[np.ndarray], target: Target
) -> list[list[list[int]]]:
    """For each pass the label ids of each utterance, float32 samples at the model's rate."""
    interpreter = target.interpreter(file.content)
    step = interpreter.get_signature_runner("recognize_chunk")
    inputs = step.get_input_details()
    states = {k: d for k, d in inputs.items() if k not in ("samples", FLUSH)}
    chunk, tail = file.metadata["chunk_samples"], file.metadata["tail_samples"]
    passes = file.passes
    transcripts: list[list[list[int]]] = [[] for _ in passes]
    for wave in waves:
        held = {k: np.zeros(d["shape"], d["dtype"]) for k, d in states.items()}
        count = -(-(len(wave) + tail) // chunk)
        padded = np.zeros((count, 1, chunk), np.float32)
        padded.reshape(-1)[: len(wave)] = wave
        labels: list[list[int]] = [[] for _ in passes]
        for samples, owed in (*((each, 0) for each in padded), *_after_the_end(file)):
            flags = {FLUSH: np.full((1,), owed, np.float32)} if FLUSH in inputs else {}
            found = step(samples=samples, **flags, **held)
            for one, heard in zip(passes, labels, strict=True):
                if one["delay"] or not owed:
                    end = one["ending"]
                    heard += found[f"labels{end}"][0, : int(found[f"count{end}"][0])].tolist()
            held = {k: found[f"next_{k}"] for k in held}
        for transcript, heard in zip(transcripts, labels, strict=True):
            transcript.append(heard)
    return transcripts


def _after_the_end(file: ModelFile) -> list[tuple[np.ndarray, int]]:
    """Silent chunks that a pass which looks ahead waits for, and the frames that it owes then."""
    one = file.passes[-1]
    encoder = file.metadata["signatures"][one["encoders"][-1]]
    frames = encoder["outputs"]["encoded"]["shape"][1]
    silence = np.zeros((1, file.metadata["chunk_samples"]), np.float32)
    return [(silence, owed) for owed in range(one["delay"], 0, -frames)]
