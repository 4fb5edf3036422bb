"""Samples as callers have them, to samples as the model takes them."""

import numpy as np

_INT16_SCALE = np.float32(1 / 32768)


class AudioError(ValueError):
    """The samples are not mono audio of a kind that the recogniser takes."""


def as_float32(samples: np.ndarray) -> np.ndarray:
    """Checks mono samples and returns them as float32 in [-1, 1].

    Args:
      samples: float32 [n] in [-1, 1] or int16 [n]; n may be 0.

    Raises:
      AudioError: other dtypes or shapes, or values that are not finite.
    """
    if not isinstance(samples, np.ndarray) or samples.dtype not in (np.float32, np.int16):
        got = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise AudioError(
            f"audio must be a NumPy array of float32 in [-1, 1] or of int16, received {got}"
        )
    if samples.ndim != 1:
        raise AudioError(
            f"audio must have one dimension (mono), received the shape {list(samples.shape)}"
        )
    if samples.dtype == np.int16:
        return samples.astype(np.float32) * _INT16_SCALE
    if not np.isfinite(samples).all():
        where = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise AudioError(f"audio must be finite, sample {where} is {samples[where]}")
    return samples
