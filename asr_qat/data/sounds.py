"""Recorded noise and recorded rooms, for augmentation."""

from collections.abc import Sequence

import numpy as np

from asr_qat.data.audio import SAMPLE_RATE
from asr_qat.data.manifest import Utterance
from asr_qat.data.recordings import Recordings, to_float

_LONGEST_RESPONSE = SAMPLE_RATE  # of a room; what comes later cannot be heard under speech
_SOFTEST_DIRECT = 1e-3  # peak of a response, re full scale: below it, it is silence


class RecordedSounds:
    """Noise and impulse responses from manifests, for `WaveAugment.apply(..., sounds=)`.

    The texts and speakers of the manifests are not used. What is drawn depends on the random
    generator alone, so batches stay a pure function of their step. Thread-safe.

    Args:
      noises: recordings of noise, of any length: MUSAN's, for instance.
      rooms: impulse responses, one channel of each: those of OpenSLR 28, for instance.
      max_bad_share: largest share of either that may be unreadable.
      cache_bytes: memory for decoded audio, of each (16-bit: 32 kB a second).

    Raises:
      DataError: while it is used: too large a share is unreadable.
    """

    def __init__(
        self,
        noises: Sequence[Utterance] = (),
        rooms: Sequence[Utterance] = (),
        *,
        max_bad_share: float = 0.02,
        cache_bytes: int = 1 << 29,
    ):
        self._noises = Recordings(list(noises), max_bad_share, cache_bytes)
        self._rooms = Recordings(list(rooms), max_bad_share, cache_bytes)

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray | None:
        """Float32 `[count]` from a random place of a random recording; short ones are repeated."""
        samples = _draw(self._noises, rng)
        if samples is None:
            return None
        start = int(rng.integers(max(len(samples) - count, 0) + 1))
        if len(samples) >= count:
            return to_float(samples[start : start + count])
        # From a random place, too: else all short utterances would begin like the recording.
        samples = np.roll(samples, -int(rng.integers(len(samples))))
        return to_float(np.resize(samples, count))

    def room(self, rng: np.random.Generator) -> np.ndarray | None:
        """The impulse response of a random room, float32, from its direct sound on."""
        samples = _draw(self._rooms, rng)
        return None if samples is None else from_direct_sound(to_float(samples))


def from_direct_sound(response: np.ndarray) -> np.ndarray | None:
    """An impulse response from its largest peak on, at most 1 s of it; None for silence."""
    peak = int(np.abs(response).argmax())
    if abs(response[peak]) < _SOFTEST_DIRECT:
        return None
    return response[peak : peak + _LONGEST_RESPONSE] * np.float32(1.0 / response[peak])


def _draw(recordings: Recordings, rng: np.random.Generator) -> np.ndarray | None:
    """Int16 samples of a random recording, of the next one where it is bad."""
    if not (count := len(recordings)):
        return None
    first = int(rng.integers(count))
    found = (recordings.load((first + i) % count) for i in range(count))
    return next((samples for samples in found if samples is not None), None)
