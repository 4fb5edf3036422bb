import json

import pytest

from asr_qat.data.manifest import ManifestError, Utterance, read_manifest, write_manifest

ROW = {"audio_filepath": "a.wav", "duration": 1.5, "text": "one two", "speaker": "s", "id": "u"}


def _write(path, *rows):
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_relative_and_absolute_paths_and_extra_keys(tmp_path):
    rows = [
        {**ROW, "audio_filepath": "sub/a.wav", "age": 7},
        {**ROW, "id": "v", "audio_filepath": "/elsewhere/b.wav"},
    ]
    first, second = read_manifest(_write(tmp_path / "m.jsonl", rows[0], "", rows[1]))
    assert first.audio_filepath == tmp_path / "sub" / "a.wav"
    assert first.extra == {"age": 7}
    assert str(second.audio_filepath) == "/elsewhere/b.wav"


def test_written_manifest_moves_with_its_folder(tmp_path):
    old = tmp_path / "old"
    utterance = Utterance(
        audio_filepath=old / "wav" / "a.wav",
        duration=1.5,
        text="zwei straße",
        speaker="s",
        id="u",
        extra={"age": 7},
    )
    outside = Utterance(
        audio_filepath=tmp_path / "b.wav", duration=2.0, text="", speaker="s", id="v"
    )
    write_manifest(old / "m.jsonl", [utterance, outside])
    assert [p.name for p in old.iterdir()] == ["m.jsonl"]
    old.rename(tmp_path / "new")
    moved, kept = read_manifest(tmp_path / "new" / "m.jsonl")
    assert moved.audio_filepath == tmp_path / "new" / "wav" / "a.wav"
    assert (moved.text, moved.extra) == ("zwei straße", {"age": 7})
    assert kept == outside


@pytest.mark.parametrize(
    "bad, message",
    [
        ("{", "row 2: expected a JSON object"),
        ("[1]", "row 2: expected a JSON object"),
        ({k: v for k, v in ROW.items() if k != "text"}, "row 2: missing text"),
        ({**ROW, "id": "v", "duration": 0}, "positive duration in seconds, got 0"),
        ({**ROW, "id": "v", "duration": "3"}, "positive duration in seconds, got '3'"),
        ({**ROW, "id": "v", "duration": float("nan")}, "positive duration"),
        ({**ROW, "id": "v", "duration": True}, "positive duration"),
        ({**ROW, "id": "v", "speaker": 3}, "speaker to be a string, got 3"),
        ({**ROW, "id": "v", "audio_filepath": ""}, "audio_filepath to be a string"),
        (ROW, "'u' was used before, in row 1"),
    ],
)
def test_bad_rows_are_named(tmp_path, bad, message):
    path = _write(tmp_path / "m.jsonl", ROW, bad)
    with pytest.raises(ManifestError, match="m.jsonl, row 2") as caught:
        read_manifest(path)
    assert message in str(caught.value)


def test_empty_binary_and_missing_manifests(tmp_path):
    with pytest.raises(ManifestError, match="empty manifest"):
        read_manifest(_write(tmp_path / "m.jsonl", "", ""))
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="UTF-8"):
        read_manifest(tmp_path / "b.jsonl")
    with pytest.raises(OSError):
        read_manifest(tmp_path / "absent.jsonl")
    with pytest.raises(ManifestError, match="got none"):
        write_manifest(tmp_path / "n.jsonl", [])
    assert not (tmp_path / "n.jsonl").exists()
