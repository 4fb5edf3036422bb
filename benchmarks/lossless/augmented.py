"""Changed copies of recordings, made once: a GPU would wait for what is changed as it is read."""

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from asr_qat.data.audio import SAMPLE_RATE, load_audio, write_wav
from asr_qat.data.augment import WaveAugment
from asr_qat.data.manifest import Utterance, read_manifest, write_manifest


def augmented_copies(
    utterances: Sequence[Utterance],
    folder: Path,
    copies: int,
    augment: WaveAugment,
    seed: int = 0,
) -> list[Utterance]:
    """Some copies of each utterance, each changed differently, as WAV files in a folder.

    The same arguments give the same files; they are kept, and not made again.

    Args:
        utterances: the originals.
        folder: gets ``manifest.jsonl`` and ``wav/``.
        copies: of each utterance.
        augment: how they are changed.
        seed: of all changes.
    """
    manifest = folder / "manifest.jsonl"
    if not manifest.exists():
        (folder / "wav").mkdir(parents=True, exist_ok=True)
        tasks = [
            (utterance, folder / "wav" / f"{utterance.id}-{copy}.wav", augment, (seed, copy, i))
            for copy in range(copies)
            for i, utterance in enumerate(utterances)
        ]
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            write_manifest(manifest, list(pool.map(_copy, tasks, chunksize=32)))
    return read_manifest(manifest)


def _copy(task) -> Utterance:
    utterance, path, augment, seed = task
    samples = augment.apply(load_audio(utterance.audio_filepath), np.random.default_rng(seed))
    write_wav(path, samples)
    duration = len(samples) / SAMPLE_RATE
    return dataclasses.replace(utterance, audio_filepath=path, duration=duration, id=path.stem)
