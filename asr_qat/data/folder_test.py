import numpy as np
import pytest

from asr_qat.data.audio import write_wav
from asr_qat.data.folder import scan_folder
from asr_qat.data.manifest import ManifestError


def test_audio_files_of_all_folders(tmp_path):
    write_wav(tmp_path / "street" / "b.wav", np.full(8000, 0.1))
    write_wav(tmp_path / "a.WAV", np.full(16000, 0.1))
    (tmp_path / "street" / "broken.flac").write_bytes(b"no audio")
    (tmp_path / "readme.txt").write_text("about it")
    utterances, bad = scan_folder(tmp_path)
    assert [(u.id, u.duration, u.speaker, u.text) for u in utterances] == [
        ("a.WAV", 1.0, tmp_path.name, ""),
        ("street/b.wav", 0.5, "street", ""),
    ]
    assert [row["id"] for row in bad] == ["street/broken.flac"]
    assert "broken.flac: cannot be read" in bad[0]["reason"]


def test_nothing_to_hear(tmp_path):
    with pytest.raises(ManifestError, match="found none$"):
        scan_folder(tmp_path)
    with pytest.raises(ManifestError, match="no such folder"):
        scan_folder(tmp_path / "absent")
