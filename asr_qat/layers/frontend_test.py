import numpy as np
import pytest
from keras import ops

from asr_qat.layers.frontend import LogMel, mel_filterbank
from asr_qat.testing import check_streaming_layer


def reference(audio, s):
    """Log-mel written out frame by frame in float64; frame t ends with sample (t + 1) * hop."""
    window = round(s["sample_rate"] * s["window_ms"] / 1000)
    hop = round(s["sample_rate"] * s["hop_ms"] / 1000)
    length = 1 << (window - 1).bit_length()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    mel = lambda hz: 2595.0 * np.log10(1 + hz / 700.0)  # noqa: E731
    edges = np.linspace(mel(s["low_hz"]), mel(s["high_hz"]), s["mel_bins"] + 2)
    frames = []
    for end in range(hop, len(audio) + 1, hop):
        samples = np.zeros(window)
        piece = audio[max(0, end - window) : end]
        samples[window - len(piece) :] = piece
        power = np.abs(np.fft.fft(samples * hann, length)) ** 2
        bins = []
        for low, centre, high in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
            total = 0.0
            for i in range(length // 2 + 1):
                place = mel(i * s["sample_rate"] / length)
                weight = min((place - low) / (centre - low), (high - place) / (high - centre))
                total += power[i] * max(0.0, weight)
            bins.append((np.log(max(total, s["floor"])) - s["mean"]) / s["deviation"])
        frames.append(bins)
    return np.array(frames)


@pytest.mark.parametrize(
    "changed",
    [{}, {"mel_bins": 40, "window_ms": 20.0}, {"sample_rate": 8000, "high_hz": 3800.0}],
    ids=str,
)
def test_equals_the_definition(changed):
    layer = LogMel(**changed)
    audio = np.random.default_rng(0).normal(size=1700) * 0.1
    audio[500:900] = 0
    features = ops.convert_to_numpy(layer(audio[None].astype(np.float32)))[0]
    np.testing.assert_allclose(features, reference(audio, layer.settings), atol=2e-3)


def test_streaming_contract():
    check_streaming_layer(LogMel(mel_bins=20), (1600,), (160, 320, 800))


def test_samples_beyond_the_last_hop_are_left_out():
    audio = np.random.default_rng(1).normal(size=(1, 1759)).astype(np.float32)
    layer = LogMel()
    features = ops.convert_to_numpy(layer(audio))
    assert features.shape == (1, 10, 80) == layer.compute_output_shape(audio.shape)
    np.testing.assert_array_equal(features, ops.convert_to_numpy(layer(audio[:, :1600])))


def test_frame_alignment():
    """A click in hop n is heard in frame n, whose window ends with it, and in the next two."""
    audio = np.zeros((1, 3200), np.float32)
    audio[0, 5 * 160 + 140] = 1.0
    features = ops.convert_to_numpy(LogMel()(audio))[0]
    heard = np.flatnonzero(np.any(features != features[0], axis=1))
    assert heard.tolist() == [5, 6, 7]


def test_a_tone_is_loudest_in_its_band():
    tone = np.sin(2 * np.pi * 1000 * np.arange(3200) / 16000)[None].astype(np.float32)
    features = ops.convert_to_numpy(LogMel()(tone))[0, 5]
    low, high = 1127 * np.log1p(60 / 700), 1127 * np.log1p(7600 / 700)
    centres = 700 * np.expm1(np.linspace(low, high, 82)[1:-1] / 1127)
    assert np.abs(centres[features.argmax()] - 1000) < 60


def test_silence_is_the_floor():
    features = ops.convert_to_numpy(
        LogMel(floor=1e-4, mean=-1.0, deviation=4.0)(np.zeros((1, 800)))
    )
    np.testing.assert_allclose(features, (np.log(1e-4) + 1) / 4, rtol=1e-6)


def test_filters_are_triangles_inside_the_band():
    bank = mel_filterbank(40, 512, 16000, 60.0, 7600.0)
    assert bank.shape == (257, 40) and bank.min() == 0 and bank.max() <= 1
    assert np.all(bank.sum(0) > 0) and np.all(np.diff(bank.argmax(0)) >= 0)
    assert np.all(bank[:2] == 0) and np.all(bank[244:] == 0)
