"""Log-mel features, computed by the same code in training and in the exported file."""

import math

import keras
import numpy as np
from keras import ops

from asr_qat.layers.base import StreamingLayer


def mel_filterbank(
    bins: int, fft_length: int, sample_rate: int, low_hz: float, high_hz: float
) -> np.ndarray:
    """Triangular filters on the HTK mel scale, float32 ``[fft_length // 2 + 1, bins]``."""
    mel = lambda hz: 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)  # noqa: E731
    edges = np.linspace(mel(low_hz), mel(high_hz), bins + 2)
    bank = mel(np.arange(fft_length // 2 + 1) * sample_rate / fft_length)[:, None]
    rising = (bank - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bank) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


@keras.saving.register_keras_serializable("asr_qat")
class LogMel(StreamingLayer):
    """Samples to normalised log-mel frames; frame t ends with sample ``(t + 1) * hop``.

    Args:
        sample_rate: in Hz.
        window_ms: length of the Hann window, in milliseconds.
        hop_ms: distance of two frames, in milliseconds.
        mel_bins: features a frame.
        low_hz: lower edge of the lowest filter.
        high_hz: upper edge of the highest filter.
        floor: smallest filter output (power) before the logarithm.
        mean: subtracted from the logarithm.
        deviation: divides it afterwards.
    """

    def __init__(
        self,
        sample_rate=16000,
        window_ms=25.0,
        hop_ms=10.0,
        mel_bins=80,
        low_hz=60.0,
        high_hz=7600.0,
        floor=1e-4,
        mean=-1.0,
        deviation=4.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "sample_rate": sample_rate,
            "window_ms": window_ms,
            "hop_ms": hop_ms,
            "mel_bins": mel_bins,
            "low_hz": low_hz,
            "high_hz": high_hz,
            "floor": floor,
            "mean": mean,
            "deviation": deviation,
        }
        self.mel_bins, self.floor, self.mean, self.deviation = mel_bins, floor, mean, deviation
        self.window_samples = round(sample_rate * window_ms / 1000)
        self.hop_samples = round(sample_rate * hop_ms / 1000)
        self.history_hops = math.ceil(self.window_samples / self.hop_samples) - 1
        self.fft_length = 2 ** math.ceil(math.log2(self.window_samples))
        periodic = np.arange(self.window_samples) / self.window_samples
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * periodic)).astype(np.float32)
        self.filters = mel_filterbank(mel_bins, self.fft_length, sample_rate, low_hz, high_hz)

    def initial_state(self, batch):
        """``samples``: the last ``history_hops`` hops of samples."""
        return {"samples": ops.zeros((batch, self.history_hops * self.hop_samples))}

    def step(self, x, state, training=False):
        """Samples ``[batch, n]`` -> frames ``[batch, n // hop, mel_bins]``."""
        count = ops.shape(x)[-1] // self.hop_samples
        samples = ops.concatenate([state["samples"], x[:, : count * self.hop_samples]], axis=1)
        frames = ops.pad(self._frames(samples, count) * self.window, self._fft_padding())
        real, imaginary = ops.rfft(frames)
        power = ops.square(real) + ops.square(imaginary)
        mel = ops.matmul(power, self.filters)
        features = (ops.log(ops.maximum(mel, self.floor)) - self.mean) * (1.0 / self.deviation)
        return features, {"samples": samples[:, count * self.hop_samples :]}

    def _fft_padding(self):
        return ((0, 0), (0, 0), (0, self.fft_length - self.window_samples))

    def _frames(self, samples, count):
        """Overlapping windows by joining hops: slices and one concatenation, no gather."""
        hops = ops.reshape(samples, (-1, count + self.history_hops, self.hop_samples))
        late = (self.history_hops + 1) * self.hop_samples - self.window_samples
        parts = [hops[:, i : i + count] for i in range(self.history_hops + 1)]
        return ops.concatenate([parts[0][:, :, late:], *parts[1:]], axis=-1)

    def compute_output_shape(self, input_shape):
        """``[batch, n]`` -> ``[batch, n // hop, mel_bins]``."""
        count = None if input_shape[1] is None else input_shape[1] // self.hop_samples
        return (input_shape[0], count, self.mel_bins)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), **self.settings}
