import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from asr_qat.data.audio import load_audio, write_wav
from asr_qat.data.digits import DIGIT_WORDS, concatenate_digits, is_digit_string
from asr_qat.data.manifest import ManifestError, Utterance, read_manifest

SHARED = Path(
    os.environ.get("ASR_QAT_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


@pytest.fixture
def isolated(tmp_path):
    """Two speakers; digit d is a tone of 500 + 100 d Hz, so that strings can be read back."""
    utterances = []
    for speaker, takes in (("a", 1), ("b", 3)):
        for digit, word in enumerate(DIGIT_WORDS):
            for take in range(takes):
                path = tmp_path / "in" / f"{digit}_{speaker}_{take}.wav"
                time = np.arange(3200) / 16000
                write_wav(path, 0.3 * np.sin(2 * np.pi * (500 + 100 * digit) * time))
                utterances.append(
                    Utterance(
                        audio_filepath=path, duration=0.2, text=word, speaker=speaker, id=path.stem
                    )
                )
    return utterances


def _hear(samples):
    loud = np.abs(samples) > 0.05
    words, run = [], []
    for sample, is_loud in zip(samples, np.convolve(loud, np.ones(100), "same") > 0, strict=True):
        if is_loud:
            run.append(sample)
        elif run:
            spectrum = np.abs(np.fft.rfft(run, 16000))
            words.append(DIGIT_WORDS[round((int(spectrum.argmax()) - 500) / 100)])
            run = []
    return " ".join(words)


def test_strings_say_their_text(isolated, tmp_path):
    strings = concatenate_digits(isolated, tmp_path / "out", 30, 1, 5, seed=3)
    assert read_manifest(tmp_path / "out" / "manifest.jsonl") == strings
    for utterance in strings:
        samples = load_audio(utterance.audio_filepath)
        assert len(samples) / 16000 == pytest.approx(utterance.duration)
        assert _hear(samples) == utterance.text
        assert is_digit_string(utterance.text)
        assert np.abs(samples[:400]).max() < 0.05
    assert {len(u.text.split()) for u in strings} == {1, 2, 3, 4, 5}


def test_use_is_uniform(isolated, tmp_path):
    strings = concatenate_digits(isolated, tmp_path / "out", 200, seed=0)
    uses: dict[str, Counter[str]] = {s: Counter() for s in "ab"}
    for utterance in strings:
        uses[utterance.speaker].update(utterance.text.split())
    for counter in uses.values():
        assert max(counter.values()) - min(counter.values()) <= 3  # at most one a recording
    assert sum(uses["b"].values()) == pytest.approx(3 * sum(uses["a"].values()), rel=0.1)


def test_deterministic(isolated, tmp_path):
    for out, seed in (("x", 1), ("y", 1), ("z", 2)):
        concatenate_digits(isolated, tmp_path / out, 5, seed=seed)
    files = [
        [p.read_bytes() for p in sorted((tmp_path / out).rglob("*")) if p.is_file()]
        for out in "xyz"
    ]
    assert files[0] == files[1] != files[2]


def test_bad_arguments(isolated, tmp_path):
    other = Utterance(
        audio_filepath=tmp_path / "a.wav", duration=1.0, text="one two", speaker="a", id="q"
    )
    with pytest.raises(ManifestError, match="'q'.*one word of zero"):
        concatenate_digits([*isolated, other], tmp_path / "out", 3)
    with pytest.raises(ManifestError, match="got none"):
        concatenate_digits([], tmp_path / "out", 3)
    for arguments in ((0,), (3, 0), (3, 4, 2)):
        with pytest.raises(ValueError, match="expected count"):
            concatenate_digits(isolated, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_digit_strings():
    assert is_digit_string("zero nine  five")
    assert not is_digit_string("") and not is_digit_string("one to two")


def test_real_digits(tmp_path):
    manifest = SHARED / "fsdd" / "dev.jsonl"
    if not manifest.is_file():
        pytest.skip("no fsdd in the shared data")
    strings = concatenate_digits(read_manifest(manifest), tmp_path, 20, 2, 4)
    assert all(0.3 < u.duration < 6.0 for u in strings)
