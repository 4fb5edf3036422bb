"""Audio to measure with when no recording is given."""

import numpy as np


def noise(seconds: float, sample_rate: int, seed: int = 0) -> np.ndarray:
    """Noise in syllable-like bursts: float32 [samples] within [-1, 1]."""
    rng = np.random.default_rng(seed)
    count = max(1, round(seconds * sample_rate))
    bursts = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * np.arange(count) / sample_rate)  # 4 a second
    return (0.1 * bursts * rng.normal(size=count)).clip(-1, 1).astype(np.float32)
