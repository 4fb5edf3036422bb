import os
from pathlib import Path

import numpy as np
import pytest

from asr_qat.data.audio import load_audio
from asr_qat.data.librispeech import scan_librispeech
from asr_qat.data.manifest import ManifestError

SHARED = Path(
    os.environ.get("ASR_QAT_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


@pytest.fixture
def corpus(tmp_path):
    import soundfile

    for speaker, chapter in (("84", "121"), ("19", "7")):
        folder = tmp_path / "dev-clean" / speaker / chapter
        folder.mkdir(parents=True)
        stem = f"{speaker}-{chapter}"
        for k in range(2):
            soundfile.write(folder / f"{stem}-000{k}.flac", np.zeros(8000 * (k + 1)), 16000)
        (folder / f"{stem}.trans.txt").write_text(
            f"{stem}-0000 GO DO YOU HEAR\n{stem}-0001 IT'S  OVER\n\n"
        )
    return tmp_path


def test_layout(corpus):
    for root in (corpus, corpus / "dev-clean"):
        utterances = scan_librispeech(root)
        assert [u.id for u in utterances] == [
            "19-7-0000",
            "19-7-0001",
            "84-121-0000",
            "84-121-0001",
        ]
        assert utterances[3].text == "it's  over"
        assert utterances[3].speaker == "84"
        assert utterances[3].duration == 1.0
        assert utterances[3].audio_filepath.is_file()


def test_missing_audio(corpus):
    (corpus / "dev-clean/84/121/84-121-0001.flac").unlink()
    with pytest.raises(ManifestError, match=r"84-121.trans.txt, row 2: .*84-121-0001.flac"):
        scan_librispeech(corpus)


def test_missing_transcripts(corpus):
    path = corpus / "dev-clean/84/121/84-121.trans.txt"
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(ManifestError, match="none for 84-121-0001"):
        scan_librispeech(corpus)
    path.unlink()
    with pytest.raises(ManifestError, match=r"84-121-000.\.flac: expected a .trans.txt"):
        scan_librispeech(corpus)


def test_broken_audio(corpus):
    (corpus / "dev-clean/84/121/84-121-0001.flac").write_bytes(b"junk")
    with pytest.raises(ManifestError, match="84-121-0001.flac cannot be read"):
        scan_librispeech(corpus)


def test_no_corpus(tmp_path):
    with pytest.raises(ManifestError, match="found no .trans.txt"):
        scan_librispeech(tmp_path)
    with pytest.raises(ManifestError, match="no such folder"):
        scan_librispeech(tmp_path / "absent")


def test_real_corpus():
    root = SHARED / "LibriSpeech" / "dev-sample"
    if not root.is_dir():
        pytest.skip("no LibriSpeech/dev-sample in the shared data")
    utterances = scan_librispeech(root)
    assert len(utterances) == len({u.speaker for u in utterances}) == 23
    first = utterances[0]
    assert len(load_audio(first.audio_filepath)) == round(first.duration * 16000)
    assert first.text == first.text.lower()
