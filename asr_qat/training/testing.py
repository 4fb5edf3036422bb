"""A corpus of noise, for tests that train."""

from pathlib import Path

import numpy as np

from asr_qat.data.audio import write_wav
from asr_qat.data.manifest import Utterance
from asr_qat.training.run import BatchConfig

BATCHES = BatchConfig(batch_size=4, bucket_seconds=(1.0,), augment=None)


def noise_corpus(folder: Path, count: int = 8) -> list[Utterance]:
    """Recordings of 750 ms in a folder, "ba a" and "ab" in turn."""
    rng = np.random.default_rng(0)
    utterances = []
    for i in range(count):
        path = folder / f"{i}.wav"
        write_wav(path, 0.1 * rng.normal(size=12000).astype("float32"), 16000)
        text = "ab" if i % 2 else "ba a"
        utterances.append(
            Utterance(audio_filepath=path, duration=0.75, text=text, speaker="s", id=str(i))
        )
    return utterances
