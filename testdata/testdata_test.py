from pathlib import Path

import numpy as np
import pytest

from asr_qat.data.audio import load_audio
from asr_qat.data.manifest import read_manifest

FOLDER = Path(__file__).resolve().parent
UTTERANCES = read_manifest(FOLDER / "manifest.jsonl")
REFERENCE = load_audio(FOLDER / "stereo_44100.flac")


def _similarity(a, b):
    """The largest normalized correlation over all shifts, and its shift in samples."""
    size = len(a) + len(b)
    spectrum = np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size))
    correlation = np.fft.irfft(spectrum, size) / np.sqrt(np.sum(a**2) * np.sum(b**2))
    shift = int(correlation.argmax())
    return correlation[shift], shift if shift < size // 2 else shift - size


def test_the_manifest_names_every_recording():
    audio = {p for p in FOLDER.iterdir() if p.suffix in {".wav", ".mp3", ".flac", ".opus"}}
    assert {u.audio_filepath for u in UTTERANCES} == audio
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 100_000


@pytest.mark.parametrize("utterance", UTTERANCES, ids=lambda u: u.id)
def test_every_format_and_rate_holds_the_same_speech(utterance):
    samples = load_audio(utterance.audio_filepath)
    assert len(samples) / 16000 == pytest.approx(utterance.duration, abs=0.03)
    similarity, shift = _similarity(samples, REFERENCE)
    assert similarity > 0.95
    assert abs(shift) <= 0.08 * 16000  # MP3 frames begin with the encoder's delay
