import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_qat.data import corpus as corpora
from asr_qat.data.audio import load_audio, write_wav
from asr_qat.data.corpus import (
    assign_shards,
    default_shards,
    finish_corpus,
    plan_corpus,
    try_write_shard,
    write_shard,
)
from asr_qat.data.manifest import ManifestError, Utterance, read_manifest, write_manifest
from asr_qat.data.plan import DataError
from asr_qat.data.records import unpack_record
from asr_qat.data.shards import read_records

SHARED = Path(
    os.environ.get("ASR_QAT_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


def _utterance(path, seconds=0.5, **fields):
    fields = {"text": "one", "speaker": "s", "id": path.stem, **fields}
    return Utterance(audio_filepath=path, duration=seconds, **fields)


@pytest.fixture
def utterances(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "wav"
    rows = []
    for i in range(20):
        write_wav(folder / f"u{i}.wav", 0.1 * rng.standard_normal(4000 + 100 * i))
        extra = {"ends": [1]} if i == 3 else {}
        rows.append(_utterance(folder / f"u{i}.wav", (4000 + 100 * i) / 16000, extra=extra))
    return rows


def _make(utterances, folder, shards=4, max_bad_share=0.02, **settings):
    tasks = plan_corpus(utterances, folder, "train", shards=shards, **settings)
    for task in tasks:
        write_shard(task)
    return finish_corpus(folder, "train", shards=shards, max_bad_share=max_bad_share), tasks


def test_the_index_is_a_manifest_that_moves_with_its_folder(utterances, tmp_path):
    corpus, tasks = _make(utterances, tmp_path / "out")
    assert len(tasks) == 4 and not corpus.bad
    names = {
        f"train-0000{i}-of-00004.{kind}" for i in range(4) for kind in ("array_record", "json")
    }
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"train.jsonl"} | names
    (tmp_path / "out").rename(tmp_path / "moved")
    found = {u.id: u for u in read_manifest(tmp_path / "moved" / "train.jsonl")}
    assert len(found) == 20
    for utterance in utterances:
        other = found[utterance.id]
        np.testing.assert_array_equal(
            load_audio(other.audio_filepath), load_audio(utterance.audio_filepath)
        )
        assert (other.duration, other.text, other.speaker, other.extra) == (
            utterance.duration,
            utterance.text,
            utterance.speaker,
            utterance.extra,
        )


def test_shards_tell_the_index(utterances, tmp_path):
    corpus, _ = _make(utterances, tmp_path / "out")
    rows = [
        unpack_record(content, "")[0]
        for shard in sorted((tmp_path / "out").glob("*.array_record"))
        for content in read_records(shard)
    ]
    index = [json.loads(line) for line in corpus.manifest.read_text("utf-8").splitlines()]
    for row in index:
        del row["audio_filepath"]
    assert rows == index


def test_finished_shards_are_kept(utterances, tmp_path):
    out = tmp_path / "out"
    _make(utterances, out)
    kept = {p: p.stat().st_mtime_ns for p in out.glob("train-*")}
    corpus, tasks = _make(utterances, out)
    assert not tasks and len(corpus.utterances) == 20
    assert kept == {p: p.stat().st_mtime_ns for p in out.glob("train-*")}
    first, second, third = sorted(out.glob("*.array_record"))[:3]
    first.unlink()
    os.truncate(second, 100)
    third.with_suffix(".json").write_text("{")
    (out / f".{third.stem}.array_record.99.tmp").write_bytes(b"of a process that was killed")
    _, tasks = _make(utterances, out)
    assert [Path(task.shard) for task in tasks] == [first, second, third]
    assert not list(out.glob(".*"))


def test_what_changed_is_written_again(utterances, tmp_path):
    _make(utterances, tmp_path / "out")
    changed = [_utterance(utterances[0].audio_filepath, 0.25, text="two"), *utterances[1:]]
    _, tasks = _make(changed, tmp_path / "out")
    assert len(tasks) == 1
    assert len(_make(changed, tmp_path / "out", seed=1)[1]) == 4


def test_bad_rows_are_listed(utterances, tmp_path):
    out, path = tmp_path / "out", utterances[7].audio_filepath
    content = path.read_bytes()
    path.write_bytes(b"no audio")
    with pytest.raises(DataError, match=r"train.bad.jsonl: 1 of 20 .*\(5.0%\).*2.0% may be"):
        _make(utterances, out)
    assert not (out / "train.jsonl").exists()
    corpus, tasks = _make(utterances, out, max_bad_share=0.1)
    assert not tasks  # nothing was lost
    assert len(corpus.utterances) == 19
    (bad,) = [json.loads(line) for line in (out / "train.bad.jsonl").read_text().splitlines()]
    assert bad["id"] == "u7" and "u7.wav: expected a WAV" in bad["reason"]
    path.write_bytes(content)
    _, tasks = _make(utterances, out, retry_bad=True)
    assert len(tasks) == 1
    assert len(read_manifest(out / "train.jsonl")) == 20
    assert not (out / "train.bad.jsonl").exists()


def test_a_shard_of_bad_rows_alone(utterances, tmp_path):
    for utterance in utterances[1:]:
        utterance.audio_filepath.unlink()
    corpus, _ = _make(utterances, tmp_path / "out", shards=20, max_bad_share=0.95)
    assert [u.id for u in corpus.utterances] == ["u0"]
    assert len(load_audio(corpus.utterances[0].audio_filepath)) == 4000
    with pytest.raises(DataError, match="19 of 19"):
        _make(utterances[1:], tmp_path / "none", max_bad_share=1.0)


def test_shards_of_shards(utterances, tmp_path):
    corpus, _ = _make(utterances, tmp_path / "a")
    again, _ = _make(corpus.utterances, tmp_path / "b", shards=4)
    for left, right in zip(
        sorted((tmp_path / "a").glob("*.array_record")),
        sorted((tmp_path / "b").glob("*.array_record")),
        strict=True,
    ):
        assert left.read_bytes() == right.read_bytes()
    next((tmp_path / "a").glob("*.array_record")).unlink()
    # A source that vanished is no bad recording.
    for task in plan_corpus(corpus.utterances, tmp_path / "c", "train", shards=2):
        try_write_shard(task)
    with pytest.raises(DataError, match="was not written: .*the shard is missing.*goes on with"):
        finish_corpus(tmp_path / "c", "train", shards=2, max_bad_share=1.0)


def test_folders_of_another_corpus(utterances, tmp_path):
    _make(utterances, tmp_path / "out")
    with pytest.raises(DataError, match="corpus 'train' of 4 shards, expected 5"):
        plan_corpus(utterances, tmp_path / "out", "train", shards=5)
    assert len(plan_corpus(utterances, tmp_path / "out", "dev", shards=5)) == 5


def test_bad_arguments(utterances, tmp_path):
    for shards in (0, 21):
        with pytest.raises(ValueError, match=f"expected 1 to 20 shards.*got {shards}"):
            plan_corpus(utterances, tmp_path / "out", "train", shards=shards)
    with pytest.raises(ManifestError, match="id 'u1' is in the manifests twice"):
        plan_corpus([*utterances, utterances[1]], tmp_path / "out", "train", shards=2)
    for name in ("", "a/b", "../a", ".a"):
        with pytest.raises(ValueError, match="expected a name"):
            plan_corpus(utterances, tmp_path / "out", name, shards=2)
    plan_corpus(utterances, tmp_path / "out", "train", shards=2)
    with pytest.raises(DataError, match="00000-of-00002.* was not written: no worker did"):
        finish_corpus(tmp_path / "out", "train", shards=2, max_bad_share=0.0)


@given(st.integers(1, 60), st.data())
def test_dealing(size, data):
    utterances = [_utterance(Path(f"/{i}.wav")) for i in range(size)]
    count = data.draw(st.integers(1, size))
    parts = assign_shards(utterances, count, seed=3)
    assert sorted(u.id for part in parts for u in part) == sorted(u.id for u in utterances)
    sizes = [len(part) for part in parts]
    assert len(sizes) == count and max(sizes) - min(sizes) <= 1
    assert parts == assign_shards(utterances[::-1], count, seed=3)


def test_default_shards():
    hour = [_utterance(Path(f"/{i}.wav"), 10.0) for i in range(360)]
    assert default_shards(hour[:3]) == 3
    assert default_shards(hour) == 8
    assert default_shards(hour * 100) == 25


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")
def test_real_speech(tmp_path):
    rows = read_manifest(SHARED / "speechocean762" / "dev.jsonl")[:30]
    corpus, _ = _make(rows, tmp_path / "out", shards=3)
    by_id = {u.id: u for u in rows}
    for utterance in corpus.utterances:
        np.testing.assert_allclose(
            load_audio(utterance.audio_filepath),
            load_audio(by_id[utterance.id].audio_filepath).clip(-1, 32767 / 32768),
            atol=0.51 / 32768,
        )
    write_manifest(tmp_path / "out" / "again.jsonl", corpus.utterances)
    assert read_manifest(tmp_path / "out" / "again.jsonl") == corpus.utterances
    assert corpora.index_of(Path("/a/b.array_record")) == Path("/a/b.json")
