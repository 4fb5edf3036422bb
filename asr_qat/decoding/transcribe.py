"""Transcripts of the Keras model itself: what an exported file must reproduce."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from asr_qat.backend import compiled
from asr_qat.decoding.greedy import greedy_search

BATCH = 16  # utterances decoded together


def transcribe(
    model: Any, waves: Sequence[np.ndarray], tail: int, multiple: int
) -> list[list[list[int]]]:
    """Greedy label ids of each utterance by each of the model's passes.

    Args:
        model: a `models.transducer.Transducer`.
        waves: float32 samples of each utterance.
        tail: samples of silence put after each.
        multiple: each is then padded to a multiple of so many samples, as a recogniser that works
            chunk by chunk does; the padding is decoded too.

    Returns:
        For each of the model's passes, the ids of each utterance.
    """
    decode = compiled(decoder(model))
    results: list[list[list[int]]] = [[[] for _ in waves] for _ in model.passes]
    for rows, audio, lengths in batches(waves, tail, multiple):
        for result, (labels, counts) in zip(results, decode(audio, lengths), strict=True):
            ids, ends = ops.convert_to_numpy(labels), ops.convert_to_numpy(counts)
            for row, i in enumerate(rows):
                result[i] = ids[row, : ends[row]].tolist()
    return results


def batches(
    waves: Sequence[np.ndarray], tail: int, multiple: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Utterances by rising length in batches of few different shapes, because each is compiled.

    Args:
        waves: as for `transcribe`.
        tail: as for `transcribe`.
        multiple: as for `transcribe`.

    Yields:
        Numbers of at most `BATCH` utterances; audio float32 ``[BATCH, samples]`` and lengths int32
        ``[BATCH]`` in samples, of rows without an utterance 0.
    """
    padded = [-(-(len(wave) + tail) // multiple) * multiple for wave in waves]
    order = np.argsort(padded, kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        samples = _rounded_up(max(padded[i] for i in rows), multiple)
        audio = np.zeros((BATCH, samples), np.float32)
        lengths = np.zeros(BATCH, np.int32)
        for row, i in enumerate(rows):
            audio[row, : len(waves[i])] = waves[i]
            lengths[row] = padded[i]
        yield rows, audio, lengths


def _rounded_up(samples: int, multiple: int) -> int:
    # In steps of 1.25.
    chunks = 4
    while chunks * multiple < samples:
        chunks = int(np.ceil(chunks * 1.25))
    return chunks * multiple


def decoder(model: Any) -> Callable[[Any, Any], Any]:
    """Greedy search by each of a model's passes, to be compiled.

    Returns:
        A function of audio float32 ``[batch, samples]`` and lengths int32 ``[batch]`` (samples)
        that gives for each pass labels int32 ``[batch, most]`` and their counts int32 ``[batch]``.
    """

    def decode(audio, lengths):
        features = model.feature_length(lengths)
        encoded = model.encode(audio, lengths)
        return [_search(model, *each, features) for each in zip(model.passes, encoded, strict=True)]

    return decode


def _search(model, one, encoded, features):
    most = model.config.max_symbols_per_frame
    batch, frames, _ = encoded.shape
    labels, counts, _, _ = greedy_search(
        encoded,
        one.lengths(features),
        predict=one.prediction.step,
        joint=one.joint_step,
        label=ops.zeros((batch,), dtype="int32"),
        state=one.prediction.initial_state(batch),
        max_labels=frames * most,
        max_symbols_per_frame=most,
    )
    return labels, counts
