"""Transcripts of the Keras model itself: what an exported file must reproduce."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from asr_qat.backend import compiled
from asr_qat.decoding.greedy import greedy_search

BATCH = 16  # utterances decoded together


def transcribe(
    model: Any, waves: Sequence[np.ndarray], tail: int, multiple: int
) -> list[list[int]]:
    """Greedy label ids of each utterance.

    Args:
        model: a `models.transducer.Transducer`.
        waves: float32 samples of each utterance.
        tail: samples of silence put after each.
        multiple: each is then padded to a multiple of so many samples, as a recogniser that works
            chunk by chunk does; the padding is decoded too.
    """
    padded = [-(-(len(wave) + tail) // multiple) * multiple for wave in waves]
    order = np.argsort(padded, kind="stable")
    decode = compiled(_decoder(model))
    results: list[list[int]] = [[] for _ in waves]
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        # Few different shapes, because each is compiled: full batches, lengths in steps of 1.25.
        samples = _rounded_up(max(padded[i] for i in rows), multiple)
        audio = np.zeros((BATCH, samples), np.float32)
        lengths = np.zeros(BATCH, np.int32)
        for row, i in enumerate(rows):
            audio[row, : len(waves[i])] = waves[i]
            lengths[row] = padded[i]
        labels, counts = (ops.convert_to_numpy(v) for v in decode(audio, lengths))
        for row, i in enumerate(rows):
            results[i] = labels[row, : counts[row]].tolist()
    return results


def _rounded_up(samples: int, multiple: int) -> int:
    chunks = 4
    while chunks * multiple < samples:
        chunks = int(np.ceil(chunks * 1.25))
    return chunks * multiple


def _decoder(model):
    def decode(audio, lengths):
        encoded = model.encode(audio)
        frames = encoded.shape[1]
        table = model.prediction.table
        labels, counts, _, _ = greedy_search(
            encoded,
            model.encoded_length(lengths),
            predict=model.prediction.step,
            joint=lambda frame, predicted: model.joint.step(frame, predicted, table),
            label=ops.zeros((audio.shape[0],), dtype="int32"),
            state=model.prediction.initial_state(audio.shape[0]),
            max_labels=frames * model.config.max_symbols_per_frame,
            max_symbols_per_frame=model.config.max_symbols_per_frame,
        )
        return labels, counts

    return decode
