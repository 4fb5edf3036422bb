"""Made-up recordings of real length, for benchmarks."""

import os
from pathlib import Path

import numpy as np

from asr_qat.data.audio import SAMPLE_RATE, write_wav
from asr_qat.data.augment import coloured_noise
from asr_qat.data.manifest import Utterance

_SYLLABLES = 4.0  # a second


def speechlike(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Noise with about the long-term spectrum of speech, in syllables and pauses.

    Returns:
      float32 `[samples]` at 16 kHz.
    """
    count = int(seconds * SAMPLE_RATE)
    rises = rng.random(int(seconds * _SYLLABLES) + 2) ** 2
    envelope = np.interp(np.arange(count) * _SYLLABLES / SAMPLE_RATE, np.arange(len(rises)), rises)
    hiss = 1e-3 * rng.standard_normal(count)
    return (0.1 * coloured_noise(count, rng, slope=1.5) * envelope + hiss).astype(np.float32)


def make_recordings(
    folder: str | os.PathLike[str],
    count: int,
    *,
    seconds: tuple[float, float] = (2.0, 16.0),
    seed: int = 0,
) -> list[Utterance]:
    """Writes WAV files of random lengths; all say the same.

    Args:
      folder: gets the files.
      count: how many.
      seconds: shortest and longest.
      seed: of all choices.
    """
    rng = np.random.default_rng(seed)
    utterances = []
    for number in range(count):
        samples = speechlike(rng.uniform(*seconds), rng)
        path = Path(folder) / f"r{number:06d}.wav"
        write_wav(path, samples)
        utterances.append(
            Utterance(
                audio_filepath=path,
                duration=len(samples) / SAMPLE_RATE,
                text="one two three",
                speaker=str(number % 20),
                id=path.stem,
            )
        )
    return utterances
