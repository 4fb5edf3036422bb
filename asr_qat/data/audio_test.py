import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_qat.data.audio import AudioError, load_audio, write_wav

SHARED = Path(
    os.environ.get("ASR_QAT_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


def _tone(rate, seconds=0.5, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
@pytest.mark.parametrize(
    "name, channels, tolerance",
    [("a.wav", 1, 1e-3), ("a.flac", 2, 1e-3), ("a.ogg", 1, 0.05), ("a.opus", 2, 0.05)]
    + [("a.mp3", 2, 0.05)],
)
def test_formats_rates_channels(tmp_path, name, rate, channels, tolerance):
    if name == "a.opus" and rate == 22050:
        rate = 24000  # Opus has no 22.05 kHz
    samples = np.tile(_tone(rate)[:, None], (1, channels))
    options = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    soundfile.write(tmp_path / name, samples, rate, **options)
    loaded = load_audio(tmp_path / name)
    assert loaded.dtype == np.float32 and loaded.ndim == 1
    # MP3 pads its frames; the others keep the duration.
    assert abs(len(loaded) - 8000) <= (2400 if name == "a.mp3" else 8)
    middle = loaded[3000:5000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(2000), 16000))
    assert abs(int(spectrum.argmax()) - 440) <= 2
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02 + tolerance)


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, 0.0], [0.25, -0.25]] * 10), 16000)
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), [0.25, 0.0] * 10, atol=1e-4)


def test_other_rates_on_request(tmp_path):
    soundfile.write(tmp_path / "a.wav", _tone(16000), 16000)
    assert len(load_audio(tmp_path / "a.wav", 8000)) == 4000


def test_bad_files_are_named(tmp_path):
    for name, content in (("text.wav", b"no audio"), ("zero.flac", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError, match=f"{name}.*expected a WAV, FLAC"):
            load_audio(tmp_path / name)
    with pytest.raises(AudioError, match="absent.wav.*no such file"):
        load_audio(tmp_path / "absent.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    with pytest.raises(AudioError, match="empty.wav.*without samples"):
        load_audio(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", [0.0, np.nan, np.inf], 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="nan.wav.*got 2 that are NaN"):
        load_audio(tmp_path / "nan.wav")


def test_truncated_flac_is_an_error(tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.flac", rng.uniform(-0.5, 0.5, 16000), 16000)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[:40])
    with pytest.raises(AudioError, match="a.flac"):
        load_audio(tmp_path / "a.flac")


def test_written_wav_reads_back(tmp_path):
    samples = np.array([0.0, 0.5, -1.0, 1.0, 2.0], np.float32)
    write_wav(tmp_path / "sub" / "a.wav", samples)
    assert soundfile.info(tmp_path / "sub" / "a.wav").subtype == "PCM_16"
    loaded = load_audio(tmp_path / "sub" / "a.wav")
    np.testing.assert_allclose(loaded, np.clip(samples, -1, 1), atol=1 / 32768)
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["a.wav"]


@pytest.mark.parametrize("bad", [[], [[0.0]], [np.nan]])
def test_unwritable_samples(tmp_path, bad):
    with pytest.raises(AudioError, match="a.wav"):
        write_wav(tmp_path / "a.wav", np.array(bad))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pattern", ["speechocean762/dev/*/*.opus", "LibriSpeech/**/*.flac"])
def test_real_speech(pattern):
    path = next(SHARED.glob(pattern), None)
    if path is None:
        pytest.skip(f"no {pattern} in the shared data")
    samples = load_audio(path)
    assert len(samples) > 8000 and 0.001 < np.sqrt(np.mean(samples**2)) < 0.5
