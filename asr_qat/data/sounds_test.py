import dataclasses

import numpy as np
import pytest

from asr_qat.data import augment
from asr_qat.data.audio import write_wav
from asr_qat.data.augment import WaveAugment
from asr_qat.data.manifest import Utterance
from asr_qat.data.plan import DataError
from asr_qat.data.sounds import RecordedSounds, from_direct_sound

ONLY_NOISE = WaveAugment(
    speed_probability=0.0,
    reverb_probability=0.0,
    band_limit_probability=0.0,
    noise_probability=1.0,
    gain_probability=0.0,
    noise_snr_db=(20.0, 20.0),
    recorded_share=1.0,
)
ONLY_ROOMS = dataclasses.replace(ONLY_NOISE, noise_probability=0.0, reverb_probability=1.0)


def _recording(path, samples):
    write_wav(path, samples)
    return Utterance(
        audio_filepath=path, duration=len(samples) / 16000, text="", speaker="s", id=path.stem
    )


def _speech(seconds=1.0):
    rng = np.random.default_rng(1)
    return (0.05 * rng.standard_normal(int(16000 * seconds))).astype(np.float32)


@pytest.fixture
def ramps(tmp_path):
    """Two noises that tell where they were cut: 3 s of rising values, and 0.1 s of falling ones."""
    long, short = np.linspace(0.1, 0.9, 48000), np.linspace(-0.1, -0.9, 1600)
    return [_recording(tmp_path / "long.wav", long), _recording(tmp_path / "short.wav", short)]


def test_noise_is_a_random_piece_of_a_recording(ramps):
    sounds = RecordedSounds(noises=ramps)
    starts = set()
    for seed in range(40):
        noise = sounds.noise(16000, np.random.default_rng(seed))
        assert noise is not None
        again = sounds.noise(16000, np.random.default_rng(seed))
        np.testing.assert_array_equal(noise, again)
        assert noise.shape == (16000,) and noise.dtype == np.float32
        steps = np.diff(noise)
        if noise[0] > 0:
            np.testing.assert_allclose(steps, 0.8 / 47999, atol=1e-4)
        else:  # repeated, with a jump back in each tenth of a second
            assert np.count_nonzero(steps > 0.5) == 10
        starts.add(round(float(noise[0]), 3))
    assert min(starts) < 0 < max(starts) and len(starts) > 20


def test_the_ratio_is_kept_and_the_noise_is_the_recorded_one(ramps):
    samples = _speech()
    added = ONLY_NOISE.apply(
        samples, np.random.default_rng(0), sounds=RecordedSounds(noises=ramps[:1])
    )
    noise = added - samples
    assert 10 * np.log10(np.mean(samples**2) / np.mean(noise**2)) == pytest.approx(20.0, abs=0.01)
    rise = np.diff(noise)
    assert (rise > -1e-6).all() and rise.mean() > 0


def test_without_recordings_the_synthetic_ones_stay():
    samples = _speech()
    for config in (ONLY_NOISE, ONLY_ROOMS):
        changed = config.apply(samples, np.random.default_rng(0), sounds=RecordedSounds())
        assert not np.array_equal(changed, samples)


def test_share_of_the_recorded(ramps):
    half = dataclasses.replace(ONLY_NOISE, recorded_share=0.5)
    sounds = RecordedSounds(noises=ramps[:1])
    samples = _speech(0.1)

    def recorded(seed):
        noise = half.apply(samples, np.random.default_rng(seed), sounds=sounds) - samples
        return bool((np.diff(noise) > -1e-6).all())

    assert 30 < sum(recorded(seed) for seed in range(100)) < 70


def test_a_room_echoes_and_keeps_time_and_power(tmp_path):
    response = np.zeros(8000)
    response[300], response[300 + 1600] = -0.8, -0.4  # upside down, after a delay
    sounds = RecordedSounds(rooms=[_recording(tmp_path / "room.wav", response)])
    click = np.zeros(16000, np.float32)
    click[4000] = 0.5
    heard = ONLY_ROOMS.apply(click, np.random.default_rng(0), sounds=sounds)
    assert len(heard) == 16000
    assert np.argmax(np.abs(heard)) == 4000 and heard[4000] > 0
    assert heard[5600] / heard[4000] == pytest.approx(0.5, abs=1e-3)
    assert np.sum(heard**2) == pytest.approx(0.25, rel=1e-3)
    assert np.abs(heard[:3990]).max() < 1e-5


def test_responses():
    response = np.zeros(40000, np.float32)
    response[100] = 0.5
    direct = from_direct_sound(response)
    assert direct is not None and direct.shape == (16000,) and direct[0] == 1.0
    assert from_direct_sound(np.zeros(10, np.float32)) is None


def test_silent_sounds_change_nothing(tmp_path):
    silence = _recording(tmp_path / "silence.wav", np.zeros(16000))
    sounds = RecordedSounds(noises=[silence], rooms=[silence])
    samples = _speech()
    np.testing.assert_array_equal(
        ONLY_NOISE.apply(samples, np.random.default_rng(0), sounds=sounds), samples
    )
    np.testing.assert_array_equal(augment.mix(np.zeros(5), samples[:5], 0.0), 0.0)
    changed = ONLY_ROOMS.apply(samples, np.random.default_rng(0), sounds=sounds)
    assert np.isfinite(changed).all()


def test_bad_recordings_are_passed_over(ramps, tmp_path):
    absent = Utterance(
        audio_filepath=tmp_path / "absent.wav", duration=1.0, text="", speaker="s", id="x"
    )
    tolerant = RecordedSounds(noises=[absent, ramps[0]], max_bad_share=0.5)
    for seed in range(10):
        noise = tolerant.noise(100, np.random.default_rng(seed))
        assert noise is not None and noise.min() > 0
    strict = RecordedSounds(noises=[absent, ramps[0]])
    with pytest.raises(DataError, match="absent.wav"):
        for seed in range(10):
            strict.noise(100, np.random.default_rng(seed))


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_bad_share(share):
    with pytest.raises(ValueError, match="recorded_share"):
        WaveAugment(recorded_share=share)
