import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_qat.data.audio import load_audio
from asr_qat.data.download import DownloadError
from asr_qat.data.http_testing import serve
from asr_qat.data.librispeech import CHECKSUMS, download_librispeech, scan_librispeech
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


def test_bad_rows_are_listed_on_request(corpus):
    folder = corpus / "dev-clean/84/121"
    (folder / "84-121-0001.flac").write_bytes(b"junk")
    (folder / "84-121-0002.flac").write_bytes(b"without a transcript")
    (corpus / "dev-clean/19/7/19-7-0001.flac").unlink()
    bad: list[dict[str, Any]] = []
    assert [u.id for u in scan_librispeech(corpus, bad)] == ["19-7-0000", "84-121-0000"]
    assert [row["id"] for row in bad] == ["19-7-0001", "84-121-0001", "84-121-0002"]
    assert "row 2: expected the recording 19-7-0001.flac" in bad[0]["reason"]


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


@pytest.fixture
def archives(corpus):
    """`dev-clean.tar.gz` as OpenSLR packs it, and its checksum."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        readme = tarfile.TarInfo("LibriSpeech/README.TXT")
        readme.size = 3
        tar.addfile(readme, io.BytesIO(b"hi\n"))
        tar.add(corpus / "dev-clean", "LibriSpeech/dev-clean")
    content = file.getvalue()
    return {"dev-clean.tar.gz": content}, {"dev-clean": hashlib.md5(content).hexdigest()}


def test_download(archives, tmp_path):
    files, checksums = archives
    root = tmp_path / "root"
    settings = {"checksums": checksums, "retry_seconds": 0.01}
    with serve(files, drops=[700]) as (url, requests):
        folders = download_librispeech(["dev-clean"], root, mirror=url, **settings)
        assert requests == [None, "bytes=700-"]
        assert folders == [root / "LibriSpeech" / "dev-clean"]
        assert len(scan_librispeech(folders[0])) == 4
        assert sorted(p.name for p in root.iterdir()) == ["LibriSpeech"]
        assert sorted(p.name for p in (root / "LibriSpeech").iterdir()) == [
            "README.TXT",
            "dev-clean",
        ]
        assert download_librispeech(["dev-clean"], root, mirror=url, **settings) == folders
        assert len(requests) == 2


def test_downloads_that_fail(archives, tmp_path):
    files, _ = archives
    with pytest.raises(ValueError, match="expected subsets of dev-clean, .*got dev-cleen"):
        download_librispeech(["dev-cleen"], tmp_path)
    with serve(files) as (url, _):
        with pytest.raises(DownloadError, match=f"MD5 checksum {CHECKSUMS['dev-clean']}, got"):
            download_librispeech(["dev-clean"], tmp_path / "root", mirror=url)
        other = {"test-clean.tar.gz": files["dev-clean.tar.gz"]}
    checksums = {"test-clean": hashlib.md5(files["dev-clean.tar.gz"]).hexdigest()}
    with serve(other) as (url, _):
        with pytest.raises(DownloadError, match="expected a folder LibriSpeech/test-clean"):
            download_librispeech(["test-clean"], tmp_path / "b", mirror=url, checksums=checksums)
    assert not (tmp_path / "b" / "LibriSpeech").exists()
