"""Augmentation of waveforms: pure NumPy functions and the config that composes them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asr_qat.data.audio import SAMPLE_RATE, resample

# Spectral slopes of noise power, in powers of 1 / frequency: white, pink, brown.
NOISE_SLOPES = (0.0, 1.0, 2.0)
_TELEPHONE_RATE = 8_000  # Hz


class Sounds(Protocol):
    """Recorded noise and rooms; see `sounds.py`."""

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray | None:
        """Float32 `[count]` of noise at any level; None where there are no recordings."""

    def room(self, rng: np.random.Generator) -> np.ndarray | None:
        """Float32 impulse response of a room, direct sound first; None where there are none."""


@dataclass(frozen=True, kw_only=True)
class WaveAugment:
    """Random changes of a 16 kHz waveform, each with its own probability.

    They are applied in the order speed, reverberation, band limit, noise, gain: that of a voice, a
    room, a microphone, its electronics and its level.
    """

    speed_probability: float = 0.5
    speed_range: tuple[float, float] = (0.85, 1.15)  # factor; above 1 is faster and shorter
    reverb_probability: float = 0.2
    reverb_seconds: tuple[float, float] = (0.05, 0.35)  # time to decay by 60 dB
    band_limit_probability: float = 0.2
    low_pass_hz: tuple[float, float] = (2_500.0, 7_000.0)
    noise_probability: float = 0.5
    noise_snr_db: tuple[float, float] = (8.0, 40.0)
    gain_probability: float = 0.8
    gain_db: tuple[float, float] = (-15.0, 6.0)
    # Of the noises and rooms, where there are recordings to take them from.
    recorded_share: float = 0.75

    def __post_init__(self):
        for name in ("speed", "reverb", "band_limit", "noise", "gain"):
            probability = getattr(self, f"{name}_probability")
            if not 0.0 <= probability <= 1.0:
                raise ValueError(f"expected {name}_probability in [0, 1], got {probability}")
        if not 0.0 <= self.recorded_share <= 1.0:
            raise ValueError(f"expected recorded_share in [0, 1], got {self.recorded_share}")
        for name in ("speed_range", "reverb_seconds", "low_pass_hz", "noise_snr_db", "gain_db"):
            low, high = getattr(self, name)
            if not low <= high or (low <= 0 and not name.endswith("_db")):
                raise ValueError(f"expected {name} as (low, high), got {(low, high)}")

    def apply(
        self,
        samples: np.ndarray,
        rng: np.random.Generator,
        *,
        max_samples: int | None = None,
        sounds: Sounds | None = None,
    ) -> np.ndarray:
        """Returns a changed copy of float32 `[samples]`; speed may change the length.

        Args:
          samples: 16 kHz waveform in [-1, 1].
          rng: source of all randomness.
          max_samples: longest result allowed: slow-downs are limited to what fits.
          sounds: recorded noise and rooms, for `recorded_share` of the cases.
        """
        low, high = self.speed_range
        if rng.random() < self.speed_probability:
            if max_samples is not None:
                low = max(low, len(samples) / max_samples)
            factor = rng.uniform(min(low, high), high)
            samples = change_speed(samples, factor)[:max_samples]
        if rng.random() < self.reverb_probability:
            samples = self._in_room(samples, rng, sounds)
        if rng.random() < self.band_limit_probability:
            if rng.random() < 0.5:
                samples = through_telephone(samples)
            else:
                samples = low_pass(samples, rng.uniform(*self.low_pass_hz))
        if rng.random() < self.noise_probability:
            samples = self._with_noise(samples, rng, sounds)
        if rng.random() < self.gain_probability:
            samples = change_gain(samples, rng.uniform(*self.gain_db))
        return np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False)

    def _in_room(
        self, samples: np.ndarray, rng: np.random.Generator, sounds: Sounds | None
    ) -> np.ndarray:
        if sounds is not None and rng.random() < self.recorded_share:
            response = sounds.room(rng)
            if response is not None:
                return in_room(samples, response)
        return add_reverb(samples, rng.uniform(*self.reverb_seconds), rng)

    def _with_noise(
        self, samples: np.ndarray, rng: np.random.Generator, sounds: Sounds | None
    ) -> np.ndarray:
        if sounds is not None and rng.random() < self.recorded_share:
            noise = sounds.noise(len(samples), rng)
            if noise is not None:
                return mix(samples, noise, rng.uniform(*self.noise_snr_db))
        slope = NOISE_SLOPES[rng.integers(len(NOISE_SLOPES))]
        return add_noise(samples, rng.uniform(*self.noise_snr_db), rng, slope=slope)


def change_gain(samples: np.ndarray, gain_db: float) -> np.ndarray:
    """Scales by `10^(gain_db / 20)`."""
    return samples * np.float32(10.0 ** (gain_db / 20.0))


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Plays `factor` times faster, pitch included: about `samples / factor` samples."""
    # Rates rounded to 1 %: soxr makes a filter for each ratio, coarse ratios keep that cheap.
    rate = round(SAMPLE_RATE * factor / 160) * 160
    changed = resample(samples, rate, SAMPLE_RATE)
    return changed if changed.size else samples


def add_noise(
    samples: np.ndarray, snr_db: float, rng: np.random.Generator, *, slope: float = 0.0
) -> np.ndarray:
    """Adds stationary noise at a signal-to-noise ratio; silence stays as it is.

    Args:
      samples: float32 `[samples]`.
      snr_db: ratio of the mean powers, in dB.
      rng: source of the noise.
      slope: 0 white, 1 pink (power as 1 / f), 2 brown (1 / f^2).
    """
    power = _power(samples)
    if power == 0.0:
        return samples
    noise = coloured_noise(len(samples), rng, slope=slope)
    return samples + noise * np.float32(np.sqrt(power * 10.0 ** (-snr_db / 10.0)))


def mix(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Adds float32 `[samples]` of noise, scaled to a ratio of the mean powers; silence stays."""
    power, noise_power = _power(samples), _power(noise)
    if power == 0.0 or noise_power == 0.0:
        return samples
    return samples + noise * np.float32(np.sqrt(power / noise_power * 10.0 ** (-snr_db / 10.0)))


def coloured_noise(count: int, rng: np.random.Generator, *, slope: float = 0.0) -> np.ndarray:
    """Float32 `[count]` noise of unit power whose spectrum falls as 1 / frequency^slope.

    Below 50 Hz the spectrum is flat, so brown noise is no drifting offset.
    """
    size = fft_size(count)
    noise = rng.standard_normal(size, dtype=np.float32)
    if slope:
        frequency = np.fft.rfftfreq(size, 1.0 / SAMPLE_RATE).astype(np.float32)
        shape = np.maximum(frequency, 50.0) ** np.float32(-slope / 2.0)
        noise = np.fft.irfft(np.fft.rfft(noise) * shape, size).astype(np.float32)
    noise = noise[:count]
    return noise / max(float(np.sqrt(np.mean(np.square(noise)))), 1e-12)


def low_pass(samples: np.ndarray, cutoff_hz: float) -> np.ndarray:
    """Removes what is above a frequency, with a raised-cosine edge an eighth of it wide."""
    size = fft_size(len(samples))
    frequency = np.fft.rfftfreq(size, 1.0 / SAMPLE_RATE)
    edge = np.clip((frequency - cutoff_hz) / (cutoff_hz / 8.0), 0.0, 1.0)
    response = (0.5 + 0.5 * np.cos(np.pi * edge)).astype(np.float32)
    return np.fft.irfft(np.fft.rfft(samples, size) * response, size)[: len(samples)].astype(
        np.float32
    )


def through_telephone(samples: np.ndarray) -> np.ndarray:
    """Resamples to 8 kHz and back: the band of a telephone line; the length is kept."""
    narrow = resample(samples, SAMPLE_RATE, _TELEPHONE_RATE)
    wide = resample(narrow, _TELEPHONE_RATE, SAMPLE_RATE)[: len(samples)]
    return np.pad(wide, (0, len(samples) - len(wide)))


def add_reverb(samples: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Convolves with exponentially decaying noise after the direct sound; the length is kept.

    Args:
      samples: float32 `[samples]`.
      seconds: time in which the room's sound decays by 60 dB.
      rng: source of the impulse response and of the ratio of direct to reflected power (3-15 dB).
    """
    count = max(int(seconds * SAMPLE_RATE), 2)
    decay = np.exp(-np.log(1000.0) * np.arange(count) / count).astype(np.float32)
    response = rng.standard_normal(count, dtype=np.float32) * decay
    response[0] = 0.0
    reflected_power = 10.0 ** (-rng.uniform(3.0, 15.0) / 10.0)
    response *= np.float32(np.sqrt(reflected_power / np.sum(np.square(response))))
    response[0] = 1.0
    return _convolve(samples, response)


def in_room(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolves with an impulse response; the length and the mean power are kept.

    Args:
      samples: float32 `[samples]`.
      response: float32, the direct sound first, so that what is said stays where it is.
    """
    heard = _convolve(samples, response)
    power = _power(heard)
    return heard if power == 0.0 else heard * np.float32(np.sqrt(_power(samples) / power))


def _convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    size = fft_size(len(samples) + len(response))
    product = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size)[: len(samples)].astype(np.float32)


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def fft_size(count: int) -> int:
    """The smallest size of at least `count` that is a power of two times 1, 1.25, 1.5 or 1.75."""
    power = 1 << max(count - 1, 1).bit_length() - 1
    if power < 4:
        return max(count, 2)
    return next(n for n in (power, *(power * k // 4 for k in (5, 6, 7)), 2 * power) if n >= count)
