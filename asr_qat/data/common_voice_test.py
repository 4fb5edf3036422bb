import numpy as np
import pytest
import soundfile

from asr_qat.data.audio import load_audio
from asr_qat.data.common_voice import normalized_text, scan_common_voice
from asr_qat.data.manifest import ManifestError

HEADER = "client_id\tpath\tsentence_id\tsentence\tup_votes\n"


@pytest.fixture
def table(tmp_path):
    (tmp_path / "clips").mkdir()
    for i in range(3):
        samples = 0.1 * np.sin(np.arange(16000 * (i + 1)) / 5)
        soundfile.write(tmp_path / "clips" / f"cv_{i}.mp3", samples, 32000)
    path = tmp_path / "train.tsv"
    path.write_text(
        HEADER
        + 'anna\tcv_0.mp3\t1\t"Don\u2019t stop," she said.\t2\n'
        + "ben\tcv_1.mp3\t2\tZwölf Boxkämpfer\u2026\t2\n"
        + "anna\tcv_2.mp3\t3\t???\t2\n"
        + "ben\tcv_9.mp3\t4\tNot here\t2\n"
        + "ben\n",
        "utf-8",
    )
    return path


def test_rows(table):
    utterances, bad = scan_common_voice(table)
    assert [(u.id, u.speaker, u.text) for u in utterances] == [
        ("cv_0", "anna", "don't stop she said"),
        ("cv_1", "ben", "zwölf boxkämpfer"),
    ]
    for utterance in utterances:
        assert utterance.duration == pytest.approx(
            len(load_audio(utterance.audio_filepath)) / 16000, abs=0.1
        )
    assert [row["reason"].split(": ", 1)[0] for row in bad] == [
        f"{table}, row {number}" for number in (4, 5, 6)
    ]
    assert "no words in the sentence '???'" in bad[0]["reason"]
    assert "cv_9.mp3: there is no such clip" in bad[1]["reason"]


def test_durations_from_their_table(table):
    (table.parent / "clip_durations.tsv").write_text(
        "clip\tduration[ms]\ncv_0.mp3\t1234\ncv_1.mp3\t0\n"
    )
    utterances, bad = scan_common_voice(table)
    assert [(u.id, u.duration) for u in utterances] == [("cv_0", 1.234)]
    assert "cv_1.mp3: holds no samples" in bad[0]["reason"]
    (table.parent / "clip_durations.tsv").write_text("clip\tduration[ms]\ncv_0.mp3\tlong\n")
    with pytest.raises(ManifestError, match="clip_durations.tsv: expected duration.* 'long'"):
        scan_common_voice(table)


def test_clips_elsewhere_and_unreadable(table, tmp_path):
    moved = table.parent / "clips"
    moved.rename(tmp_path / "other")
    (tmp_path / "other" / "cv_0.mp3").write_bytes(b"no audio")
    utterances, bad = scan_common_voice(table, tmp_path / "other", punctuation=True)
    assert [u.text for u in utterances] == ["zwölf boxkämpfer\u2026", "???"]
    assert "cv_0.mp3: cannot be read" in bad[0]["reason"]
    with pytest.raises(ManifestError, match="got 5 bad ones, such as: .*row 2"):
        scan_common_voice(table)


@pytest.mark.parametrize(
    "sentence, expected",
    [
        ("  A  well-known “fact”: it's 'so'. ", "a well known fact it's so"),
        ("Cafe\u0301!", "café"),
        ("नमस्ते दुनिया।", "नमस्ते दुनिया"),
        ("— '", ""),
        ("3,5 Meter", "3 5 meter"),
    ],
)
def test_text(sentence, expected):
    assert normalized_text(sentence) == expected


@pytest.mark.parametrize(
    "content, message",
    [("", "got no rows"), (HEADER, "got no rows"), ("path\tsentence\na\tb\n", "named client_id")],
)
def test_no_such_table(tmp_path, content, message):
    (tmp_path / "x.tsv").write_text(content)
    with pytest.raises(ManifestError, match=f"x.tsv: expected a header.*{message}"):
        scan_common_voice(tmp_path / "x.tsv")
