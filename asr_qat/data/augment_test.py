import dataclasses

import numpy as np
import pytest

from asr_qat.data import augment
from asr_qat.data.augment import WaveAugment

OFF = WaveAugment(
    speed_probability=0.0,
    reverb_probability=0.0,
    band_limit_probability=0.0,
    noise_probability=0.0,
    gain_probability=0.0,
)


def _speechlike(seconds=2.0, seed=0):
    noise = np.random.default_rng(seed).standard_normal(int(16000 * seconds))
    return (0.1 * noise).astype(np.float32)


def _tone(hertz, seconds=1.0):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(16000 * seconds)) / 16000)).astype("f4")


def _power(samples):
    return float(np.mean(np.square(samples, dtype=np.float64)))


def test_off_changes_nothing():
    samples = _speechlike()
    np.testing.assert_array_equal(OFF.apply(samples, np.random.default_rng(0)), samples)


def test_deterministic_and_leaves_its_input_alone():
    samples = _speechlike()
    before = samples.copy()
    everything = WaveAugment(
        speed_probability=1.0,
        reverb_probability=1.0,
        band_limit_probability=1.0,
        noise_probability=1.0,
        gain_probability=1.0,
    )
    for seed in range(20):
        first = everything.apply(samples, np.random.default_rng(seed))
        again = everything.apply(samples, np.random.default_rng(seed))
        np.testing.assert_array_equal(first, again)
        assert first.dtype == np.float32 and np.isfinite(first).all()
        assert np.abs(first).max() <= 1.0
        assert not np.array_equal(first, everything.apply(samples, np.random.default_rng(99)))
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("length", [1, 2, 3, 700, 16001])
def test_any_length(length):
    for seed in range(30):
        out = WaveAugment(speed_probability=1.0, reverb_probability=1.0).apply(
            _speechlike()[:length], np.random.default_rng(seed)
        )
        assert len(out) >= 1 and np.isfinite(out).all()


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.15])
def test_speed_changes_length_and_pitch(factor):
    out = augment.change_speed(_tone(1000.0), factor)
    assert len(out) == pytest.approx(16000 / factor, rel=0.01)
    spectrum = np.abs(np.fft.rfft(out * np.hanning(len(out)), 1 << 17))
    assert spectrum.argmax() * 16000 / (1 << 17) == pytest.approx(1000 * factor, rel=0.01)


def test_slowing_down_is_limited_to_the_room():
    augmenter = dataclasses.replace(OFF, speed_probability=1.0, speed_range=(0.5, 0.6))
    samples = _speechlike(1.0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert len(augmenter.apply(samples, rng, max_samples=16500)) <= 16500
    assert len(augmenter.apply(samples, np.random.default_rng(0))) > 25000


@pytest.mark.parametrize("slope", augment.NOISE_SLOPES)
def test_noise_has_its_ratio_and_colour(slope):
    samples = _tone(500.0, 4.0)
    noise = augment.add_noise(samples, 12.0, np.random.default_rng(0), slope=slope) - samples
    assert 10 * np.log10(_power(samples) / _power(noise)) == pytest.approx(12.0, abs=0.05)
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / 16000)
    low = power[(frequency > 200) & (frequency < 400)].mean()
    high = power[(frequency > 3200) & (frequency < 6400)].mean()
    assert np.log2(low / high) == pytest.approx(4 * slope, abs=0.4)


def test_silence_stays_silent():
    silence = np.zeros(1000, np.float32)
    np.testing.assert_array_equal(
        augment.add_noise(silence, 0.0, np.random.default_rng(0)), silence
    )


@pytest.mark.parametrize(
    "limit", [lambda x: augment.low_pass(x, 3500.0), augment.through_telephone]
)
def test_band_limits_keep_low_tones_only(limit):
    low, high = limit(_tone(1000.0)), limit(_tone(5000.0))
    assert len(low) == len(high) == 16000
    np.testing.assert_allclose(low[500:-500], _tone(1000.0)[500:-500], atol=0.01)
    assert _power(high[500:-500]) < 1e-4 * _power(low)


def test_reverberation_is_causal_and_decays():
    click = np.zeros(8000, np.float32)
    click[1000] = 0.5
    out = augment.add_reverb(click, 0.2, np.random.default_rng(0))
    assert len(out) == 8000
    np.testing.assert_allclose(out[:1000], 0.0, atol=1e-6)
    assert out[1000] == pytest.approx(0.5, rel=1e-3)
    assert _power(out[1001:1800]) > 100 * _power(out[3200:4000])
    assert np.abs(out[4300:]).max() < 1e-6
    assert 0.01 < np.sum(out[1001:] ** 2) / 0.25 < 0.6


def test_gain():
    np.testing.assert_allclose(augment.change_gain(np.ones(3, np.float32), -20.0), 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        {"noise_probability": 1.5},
        {"speed_range": (1.1, 0.9)},
        {"speed_range": (0.0, 1.0)},
        {"gain_db": (3.0, -3.0)},
    ],
)
def test_bad_settings(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        WaveAugment(**bad)


def test_fft_sizes():
    for count in range(1, 5000):
        assert count <= augment.fft_size(count) <= max(2, 1.26 * count)
