import importlib.util

import numpy as np
import pytest
import soundfile

from asr_qat.data.audio import load_audio
from asr_qat.data.digits import is_digit_string
from asr_qat.data.manifest import read_manifest
from asr_qat.tools.digit_corpus import make_digit_corpus
from asr_qat.tools.speech_corpus import ACCENTS, VARIANTS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)


def _files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_no_timbre_is_in_two_splits():
    used = [variant for variants in VARIANTS.values() for variant in variants]
    assert len(used) == len(set(used))


def test_every_voice_speaks(tmp_path):
    voices = len(ACCENTS) * len(VARIANTS["dev"])
    corpus = make_digit_corpus(tmp_path, train=0, dev=voices, test=0, processes=1, progress=False)
    assert len({u.speaker for u in corpus["dev"]}) == voices
    assert not (tmp_path / "train.jsonl").exists()


def test_corpus(tmp_path):
    corpus = make_digit_corpus(
        tmp_path, train=40, dev=10, test=10, processes=1, progress=False, min_digits=2, max_digits=4
    )
    levels = []
    for split, count in (("train", 40), ("dev", 10), ("test", 10)):
        utterances = read_manifest(tmp_path / f"{split}.jsonl")
        assert utterances == corpus[split] and len(utterances) == count
        assert len({u.speaker for u in utterances}) == count
        for utterance in utterances:
            assert utterance.speaker.split("+")[1] in VARIANTS[split]
            assert is_digit_string(utterance.text) and 2 <= len(utterance.text.split()) <= 4
            information = soundfile.info(utterance.audio_filepath)
            assert (information.samplerate, information.subtype) == (16000, "PCM_16")
            samples = load_audio(utterance.audio_filepath)
            assert len(samples) / 16000 == utterance.duration
            assert np.abs(samples).max() < 0.995
            levels.append(20 * np.log10(np.sqrt(np.mean(samples**2))))
    assert min(levels) > -35 and max(levels) < -15 and np.ptp(levels) > 8


def test_same_files_for_any_number_of_processes(tmp_path):
    sizes = {"train": 20, "dev": 3, "test": 3}
    make_digit_corpus(tmp_path / "a", **sizes, processes=1, progress=False)
    make_digit_corpus(tmp_path / "b", **sizes, processes=2, progress=False)
    make_digit_corpus(tmp_path / "c", **sizes, processes=1, progress=False, seed=1)
    assert _files(tmp_path / "a") == _files(tmp_path / "b") != _files(tmp_path / "c")
    make_digit_corpus(tmp_path / "d", train=1, dev=3, test=0, processes=1, progress=False)
    assert (tmp_path / "d" / "dev.jsonl").read_bytes() == (tmp_path / "a/dev.jsonl").read_bytes()


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="counts of utterances"):
        make_digit_corpus(tmp_path / "x", train=0, dev=0, test=0)
    with pytest.raises(ValueError, match="min_digits"):
        make_digit_corpus(tmp_path / "x", min_digits=3, max_digits=2)
    assert not (tmp_path / "x").exists()
