import importlib.util
import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from asr_qat.data.audio import write_wav
from asr_qat.data.beam_corpus import make_corpus
from asr_qat.data.manifest import Utterance, read_manifest, write_manifest
from asr_qat.data.plan import DataError

SHARDS = 40


@pytest.fixture(autouse=True)
def _needs_beam():
    if importlib.util.find_spec("apache_beam") is None:
        pytest.skip("Apache Beam is not installed: pip install 'asr_qat[scale]'")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """400 recordings, 2 of which cannot be read."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    utterances = []
    for i in range(400):
        samples = 0.1 * rng.standard_normal(32000)
        path = folder / f"u{i:03d}.wav"
        if i in (50, 150):
            path.write_bytes(b"no audio")
        else:
            write_wav(path, samples)
        utterances.append(
            Utterance(audio_filepath=path, duration=2.0, text="x", speaker=str(i % 7), id=path.stem)
        )
    write_manifest(folder / "all.jsonl", utterances)
    return folder / "all.jsonl"


def _shards(folder):
    return {path.name: path for path in folder.glob("all-*.array_record")}


def _prepare(manifest, out):
    command = [sys.executable, "-m", "asr_qat.tools.prepare", "shards", str(manifest)]
    command += ["--out", str(out), "--shards", str(SHARDS), "--processes", "2"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _wait(condition, process):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    return found


def _workers(process):
    """The worker processes of Beam, once both are there."""
    listed = subprocess.run(["ps", "-wweo", "pid=,pgid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    found = [
        int(pid)
        for pid, group, command in rows
        if int(group) == process.pid and "sdk_worker_main" in command and "/sh " not in command
    ]
    return found if len(found) == 2 else None


def _times(out):
    finished = [path.with_suffix(".array_record") for path in out.glob("all-*.json")]
    return {path: path.stat().st_mtime_ns for path in finished}


def test_killed_in_the_middle_and_run_again(manifest, tmp_path):
    out = tmp_path / "two"
    process = _prepare(manifest, out)
    _wait(lambda: len(_times(out)) >= 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = _times(out)
    assert 3 <= len(before) < SHARDS and not (out / "all.jsonl").exists()

    process = _prepare(manifest, out)
    workers = _wait(lambda: _workers(process), process)
    _wait(lambda: len(_times(out)) > len(before), process)
    os.kill(workers[0], signal.SIGKILL)  # as a system does that is short of memory
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "DirectRunner failed: Worker subprocess exited" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    more = _times(out)
    assert len(before) < len(more) < SHARDS

    process = _prepare(manifest, out)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "WARNING" not in errors  # Beam's log is not the user's
    after = _times(out)
    assert len(after) == SHARDS and not list(out.glob(".*"))
    assert before.items() <= more.items() <= after.items()
    assert [row.id for row in read_bad(out)] == ["u050", "u150"]
    assert len(read_manifest(out / "all.jsonl")) == 398

    one = tmp_path / "one"
    make_corpus(read_manifest(manifest), one, "all", shards=SHARDS, processes=1, progress=False)
    assert _shards(one).keys() == _shards(out).keys()
    for name, path in _shards(one).items():
        assert path.read_bytes() == _shards(out)[name].read_bytes()
    assert (one / "all.jsonl").read_bytes() == (out / "all.jsonl").read_bytes()


def read_bad(folder):
    return sorted(read_manifest(folder / "all.bad.jsonl"), key=lambda row: row.id)


def test_other_runners_and_errors(manifest, tmp_path):
    rows = read_manifest(manifest)[:8]
    settings: dict[str, Any] = {"shards": 4, "progress": False}
    with pytest.raises(ValueError, match="Unexpected pipeline runner: NoRunner"):
        make_corpus(rows, tmp_path, "a", runner="NoRunner", **settings)
    # The job API that Flink's and Spark's runners speak, with a server in this process.
    corpus = make_corpus(
        rows,
        tmp_path,
        "a",
        runner="PortableRunner",
        options=["--job_endpoint=embed", "--environment_type=LOOPBACK"],
        **settings,
    )
    assert len(corpus.utterances) == 8
    for wrong in ({"processes": 0}, {"max_bad_share": 2.0}):
        with pytest.raises(ValueError, match="expected processes >= 1"):
            make_corpus(rows, tmp_path, "a", **{**settings, **wrong})
    (tmp_path / "b-00002-of-00004.array_record").mkdir()  # cannot be written
    with pytest.raises(DataError, match=r"b-00002-of-00004.array_record: was not written"):
        make_corpus(rows, tmp_path, "b", **settings, processes=1)
    assert len(list(tmp_path.glob("b-*.json"))) == 3
    (tmp_path / "b-00002-of-00004.array_record").rmdir()
    assert len(make_corpus(rows, tmp_path, "b", **settings, processes=1).utterances) == 8


def test_without_beam(manifest, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # what Python finds when it is absent
    with pytest.raises(ValueError, match=r"not installed: pip install 'asr_qat\[scale\]'"):
        make_corpus(read_manifest(manifest), tmp_path, "a", progress=False)
