import argparse
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_qat.data.audio import load_audio
from asr_qat.data.http_testing import serve
from asr_qat.data.librispeech import CHECKSUMS
from asr_qat.data.manifest import read_manifest
from asr_qat.data.plan import DataError
from asr_qat.tools import prepare

SHARED = Path(
    os.environ.get("ASR_QAT_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None, reason="Apache Beam is not installed"
)


def _run(capsys, *arguments):
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    assert prepare.run(parser.parse_args([str(a) for a in arguments])) == 0
    return capsys.readouterr().out


@pytest.fixture
def librispeech(tmp_path):
    folder = tmp_path / "dev-clean" / "84" / "121"
    folder.mkdir(parents=True)
    for k in range(6):
        soundfile.write(folder / f"84-121-000{k}.flac", np.full(8000, 0.1), 16000)
    lines = [f"84-121-000{k} HELLO" for k in range(6)]
    (folder / "84-121.trans.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "dev-clean"


@pytest.fixture
def common_voice(tmp_path):
    (tmp_path / "clips").mkdir()
    rows = ["client_id\tpath\tsentence"]
    for k in range(5):
        soundfile.write(tmp_path / "clips" / f"{k}.wav", np.full(8000, 0.1), 16000)
        rows.append(f"me\t{k}.wav\tHello, {k}!")
    (tmp_path / "clips" / "3.wav").unlink()
    (tmp_path / "train.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path / "train.tsv"


def test_common_voice(common_voice, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match=r"out.bad.jsonl: 1 of 5 .*3.wav: there is no such clip"):
        _run(capsys, "common_voice", common_voice, "--out", out)
    assert not out.exists()
    text = _run(capsys, "common_voice", common_voice, "--out", out, "--max-bad-share", 0.2)
    listed = tmp_path / "out.bad.jsonl"
    assert text == f"{out}: 4 utterances, 0.00 h, 1 speakers; left out 1, listed in {listed}\n"
    assert [u.text for u in read_manifest(out)] == ["hello 0", "hello 1", "hello 2", "hello 4"]


def test_folder(common_voice, tmp_path, capsys):
    out = tmp_path / "noise.jsonl"
    text = _run(capsys, "folder", common_voice.parent / "clips", "--out", out)
    assert text == f"{out}: 4 utterances, 0.00 h, 1 speakers\n"
    assert {u.text for u in read_manifest(out)} == {""}


@needs_beam
def test_straight_to_shards(librispeech, common_voice, tmp_path, capsys):
    out = tmp_path / "corpus"
    flags = ("--out", out, "--shards", 2, "--processes", 1)
    text = _run(capsys, "librispeech", librispeech, *flags)
    assert text == f"{out / 'dev-clean.jsonl'}: 6 utterances, 0.00 h, 1 speakers\n"
    found = json.loads(
        _run(capsys, "common_voice", common_voice, *flags, "--max-bad-share", 0.2, "--json")
    )
    assert found["manifests"] == [
        {
            "manifest": str(out / "train.jsonl"),
            "utterances": 4,
            "hours": 0.0006,
            "speakers": 1,
            "bad": 1,
            "bad_rows": str(out / "train.bad.jsonl"),
        }
    ]
    for name in ("dev-clean", "train"):
        for utterance in read_manifest(out / f"{name}.jsonl"):
            np.testing.assert_allclose(load_audio(utterance.audio_filepath), 0.1, atol=1e-4)
    text = _run(
        capsys, "shards", out / "train.jsonl", out / "dev-clean.jsonl", "--out", tmp_path / "all"
    )
    assert "all/train.jsonl: 10 utterances" in text
    with pytest.raises(ValueError, match="train.jsonl: is read, and would be overwritten"):
        _run(capsys, "shards", out / "train.jsonl", "--out", out)


def test_downloads(tmp_path, capsys):
    with serve({"dev-clean.tar.gz": b"something else"}) as (url, requests):
        flags = ("--mirror", url, "--out", tmp_path / "a.jsonl")
        with pytest.raises(OSError, match=f"expected the MD5 checksum {CHECKSUMS['dev-clean']}"):
            _run(capsys, "librispeech", tmp_path / "a", "--download", "dev-clean", *flags)
        with pytest.raises(ValueError, match="expected a folder, or --download"):
            _run(capsys, "librispeech", *flags)
        assert len(requests) == 1
    with pytest.raises(ValueError, match="expected a folder, or --download"):
        _run(capsys, "librispeech", "--out", tmp_path / "a.jsonl")
    # What is there is not fetched again.
    (tmp_path / "LibriSpeech").mkdir()
    if not SHARED.is_dir():
        pytest.skip("no shared data")
    (tmp_path / "LibriSpeech" / "dev-clean").symlink_to(SHARED / "LibriSpeech" / "dev-sample")
    flags = ("--download", "dev-clean", "--out", tmp_path / "a.jsonl")
    assert "23 utterances" in _run(capsys, "librispeech", tmp_path, *flags)
