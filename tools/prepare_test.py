import argparse
import importlib.util
import json
import os
from pathlib import Path

import pytest

from asr_qat.data.manifest import ManifestError, Utterance, read_manifest, write_manifest
from asr_qat.tools import prepare

SHARED = Path(
    os.environ.get("ASR_QAT_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


def _run(capsys, *arguments):
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    assert prepare.run(parser.parse_args([str(a) for a in arguments])) == 0
    return capsys.readouterr().out


def test_filter(tmp_path, capsys):
    utterances = [
        Utterance(audio_filepath=tmp_path / "a.wav", duration=d, text=t, speaker="s", id=t)
        for t, d in (("one two", 1.0), ("one cat", 1.0), ("three", 9.0))
    ]
    write_manifest(tmp_path / "in.jsonl", utterances)
    out = tmp_path / "out.jsonl"
    text = _run(capsys, "filter", tmp_path / "in.jsonl", "--digits-only", "--out", out)
    assert text == f"{out}: 2 utterances, 0.0028 h, 1 speakers\n".replace("0.0028", "0.00")
    assert [u.text for u in read_manifest(out)] == ["one two", "three"]
    found = json.loads(
        _run(capsys, "filter", tmp_path / "in.jsonl", "--max-seconds", 2, "--out", out, "--json")
    )
    assert found["manifests"][0]["utterances"] == 2
    with pytest.raises(ManifestError, match="none of its 3"):
        _run(capsys, "filter", tmp_path / "in.jsonl", "--max-seconds", 0.1, "--out", out)


@pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)
def test_synthetic(tmp_path, capsys):
    sizes = ("--train", 5, "--dev", 2, "--test", 0, "--processes", 1)
    found = json.loads(_run(capsys, "synthetic", "--out", tmp_path, *sizes, "--json"))
    assert [m["utterances"] for m in found["manifests"]] == [5, 2]
    assert len(read_manifest(found["manifests"][0]["manifest"])) == 5


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")
def test_real_corpora(tmp_path, capsys):
    out = tmp_path / "dev.jsonl"
    assert "23 utterances" in _run(
        capsys, "librispeech", SHARED / "LibriSpeech" / "dev-sample", "--out", out
    )
    assert all(u.audio_filepath.is_file() for u in read_manifest(out))
    manifest = SHARED / "fsdd" / "test.jsonl"
    assert "7 utterances" in _run(
        capsys, "digits", manifest, "--out", tmp_path / "digits", "--count", 7
    )
    assert len(read_manifest(tmp_path / "digits" / "manifest.jsonl")) == 7
