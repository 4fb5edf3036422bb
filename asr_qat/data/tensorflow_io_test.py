"""tensorflow-io decodes recordings to the very samples that `load_audio` starts from."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_qat.data.audio import load_audio

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("ASR_QAT_SHARED_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="module")
def tfio():
    return pytest.importorskip("tensorflow_io", reason="only the compatibility lane has it")


@pytest.fixture(scope="module")
def decode(tfio):
    """path -> int16 [samples, channels]."""
    decoders = {".wav": tfio.audio.decode_wav, ".flac": tfio.audio.decode_flac}
    return lambda path: decoders[path.suffix](path.read_bytes(), dtype="int16").numpy()


def with_soundfile(path):
    return soundfile.read(path, dtype="int16", always_2d=True)[0]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_equal_samples_of_a_written_file(tfio, decode, tmp_path, suffix, channels):
    path = tmp_path / f"a{suffix}"
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (5000, channels), np.int16)
    samples[:2] = [[-(2**15)], [2**15 - 1]]
    soundfile.write(path, samples, 16000, subtype="PCM_16")
    np.testing.assert_array_equal(decode(path), samples)
    np.testing.assert_array_equal(with_soundfile(path), samples)
    audio = tfio.audio.AudioIOTensor(str(path))
    assert int(audio.rate) == 16000
    np.testing.assert_array_equal(audio.to_tensor().numpy(), samples)
    if channels == 1:
        np.testing.assert_array_equal(load_audio(path), samples[:, 0] / np.float32(32768))


@pytest.mark.parametrize("name", ["mono_8000.wav", "stereo_44100.flac"])
def test_equal_samples_of_speech(decode, name):
    samples = decode(ROOT / "testdata" / name)
    np.testing.assert_array_equal(samples, with_soundfile(ROOT / "testdata" / name))
    assert len(samples) > 6000 and np.abs(samples.astype(int)).max() > 1000


def test_mp3_to_the_rounding_of_its_decoders(tfio):
    path = ROOT / "testdata" / "stereo_22050.mp3"
    samples = tfio.audio.decode_mp3(path.read_bytes()).numpy()
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0]
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)


def test_equal_samples_of_real_recordings(decode):
    found = list(itertools.islice((SHARED / "LibriSpeech").rglob("*.flac"), 20))
    if not found:
        pytest.skip("no LibriSpeech: ASR_QAT_SHARED_DATA names the folder of real speech")
    for path in found:
        samples = decode(path)
        np.testing.assert_array_equal(samples, with_soundfile(path))
        np.testing.assert_array_equal(load_audio(path), samples[:, 0] / np.float32(32768))
