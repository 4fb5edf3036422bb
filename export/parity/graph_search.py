"""Transcripts by `recognize_chunk`, the whole recogniser in one signature, on any engine."""

from collections.abc import Iterable

import numpy as np

from asr_qat.runtime.model_file import ModelFile

from .kernels import Target


def recognize(file: ModelFile, waves: Iterable[np.ndarray], target: Target) -> list[list[int]]:
    """Label ids of each utterance, float32 samples at the model's rate."""
    interpreter = target.interpreter(file.content)
    step = interpreter.get_signature_runner("recognize_chunk")
    states = {k: d for k, d in step.get_input_details().items() if k != "samples"}
    chunk, tail = file.metadata["chunk_samples"], file.metadata["tail_samples"]
    transcripts = []
    for wave in waves:
        held = {k: np.zeros(d["shape"], d["dtype"]) for k, d in states.items()}
        count = -(-(len(wave) + tail) // chunk)
        padded = np.zeros((count, 1, chunk), np.float32)
        padded.reshape(-1)[: len(wave)] = wave
        labels: list[int] = []
        for samples in padded:
            found = step(samples=samples, **held)
            labels += found["labels"][0, : int(found["count"][0])].tolist()
            held = {k: found[f"next_{k}"] for k in held}
        transcripts.append(labels)
    return transcripts
