"""The decoded audio of utterances: cached, checked against the manifest, bad ones accounted for."""

import threading
from collections.abc import Sequence

import numpy as np
from absl import logging

from asr_qat.data.audio import SAMPLE_RATE, load_audio, to_int16
from asr_qat.data.errors import AudioError, ShardError
from asr_qat.data.manifest import Utterance
from asr_qat.data.plan import DataError

# A recording may differ that much from its manifest (rounded durations, codec delay).
_DURATION_TOLERANCE = (0.1, 0.02)  # seconds, share


def load_recording(utterance: Utterance) -> np.ndarray:
    """Int16 `[samples]` of an utterance at 16 kHz.

    Raises:
      AudioError: it cannot be read, or is not as long as the manifest says.
      ShardError: the shard that holds it is missing or damaged.
    """
    samples = load_audio(utterance.audio_filepath)
    seconds = len(samples) / SAMPLE_RATE
    fixed, share = _DURATION_TOLERANCE
    if abs(seconds - utterance.duration) > fixed + share * utterance.duration:
        raise AudioError(
            f"{utterance.audio_filepath}: {seconds:.2f} s long, where the manifest says"
            f" {utterance.duration:.2f} s"
        )
    return to_int16(samples)


class Recordings:
    """Decoded audio of utterances, cached, and the account of bad files. Thread-safe.

    Args:
      utterances: the corpus.
      max_bad_share: largest share of them that may be bad.
      cache_bytes: memory for decoded audio (32 kB a second).
    """

    def __init__(self, utterances: Sequence[Utterance], max_bad_share: float, cache_bytes: int):
        self._utterances = utterances
        self._max_bad_share = max_bad_share
        self._lock = threading.Lock()
        self._bad: dict[int, str] = {}
        self._cache: dict[int, np.ndarray] = {}
        self._cache_left = cache_bytes

    def __len__(self) -> int:
        return len(self._utterances)

    def load(self, member: int) -> np.ndarray | None:
        """Int16 `[samples]` of an utterance, or None where it is bad.

        Raises:
          DataError: too large a share of the utterances is bad, or a whole shard is.
        """
        samples = self._cache.get(member)
        if samples is not None:
            return samples
        if member in self._bad:
            return None
        try:
            samples = load_recording(self._utterances[member])
        except ShardError as error:
            # Thousands of recordings at once: going on without them would be another training.
            raise DataError(str(error)) from error
        except AudioError as error:
            self._note_bad(member, error)
            return None
        with self._lock:
            # No eviction: epochs visit everything, so the hit rate is the share that fits.
            if member not in self._cache and samples.nbytes <= self._cache_left:
                self._cache[member] = samples
                self._cache_left -= samples.nbytes
        return samples

    def _note_bad(self, member: int, error: Exception) -> None:
        with self._lock:
            if member not in self._bad:
                self._bad[member] = str(error)
                logging.warning("bad recording, left out: %s", error)
            count, total = len(self._bad), len(self._utterances)
            if count / total > self._max_bad_share:
                examples = "\n  ".join(sorted(self._bad.values())[:5])
                raise DataError(
                    f"{count} of {total} recordings cannot be read; at most"
                    f" {self._max_bad_share:.1%} may be bad. Some of them:\n  {examples}"
                )


def to_float(samples: np.ndarray) -> np.ndarray:
    """Float32 in [-1, 1) of int16 samples."""
    return samples.astype(np.float32) / np.float32(32768.0)
