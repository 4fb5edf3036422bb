import hashlib
import io
import tarfile

import numpy as np
import pytest

from asr_qat.data.download import DownloadError, extract, fetch
from asr_qat.data.http_testing import serve

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


def _fetch(url, path, md5=MD5, **settings):
    return fetch(f"{url}/a.bin", path, md5, retry_seconds=0.01, **settings)


def test_download(tmp_path):
    seen = []
    with serve({"a.bin": CONTENT}) as (url, requests):
        path = _fetch(url, tmp_path / "sub" / "a.bin", progress=lambda *got: seen.append(got))
        assert path.read_bytes() == CONTENT
        assert seen[-1] == (300_000, 300_000)
        _fetch(url, path)
    assert requests == [None]  # the second call had nothing to do
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_broken_connections_resume(tmp_path):
    with serve({"a.bin": CONTENT}, drops=[100_000, 0, 50_000]) as (url, requests):
        assert _fetch(url, tmp_path / "a.bin").read_bytes() == CONTENT
    assert requests == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]


def test_a_later_call_resumes(tmp_path):
    with serve({"a.bin": CONTENT}, drops=[1000, 0, 0]) as (url, _):
        with pytest.raises(DownloadError, match=r"a.bin: .*1000 bytes are in .*goes on from there"):
            _fetch(url, tmp_path / "a.bin", attempts=2)
        assert not (tmp_path / "a.bin").exists()
    with serve({"a.bin": CONTENT}) as (url, requests):
        assert _fetch(url, tmp_path / "a.bin").read_bytes() == CONTENT
    assert requests == ["bytes=1000-"]


def test_a_server_without_ranges(tmp_path):
    with serve({"a.bin": CONTENT}, drops=[1000], ranges=False) as (url, _):
        assert _fetch(url, tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_is_complete(tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    with serve({"a.bin": CONTENT}) as (url, _):
        assert _fetch(url, tmp_path / "a.bin").read_bytes() == CONTENT


def test_wrong_checksum(tmp_path):
    with serve({"a.bin": CONTENT[:-1]}) as (url, _):
        with pytest.raises(DownloadError, match=f"a.bin: expected the MD5 checksum {MD5}, got"):
            _fetch(url, tmp_path / "a.bin")
    assert not list(tmp_path.iterdir())


def test_refusals(tmp_path):
    with serve({}) as (url, requests):
        with pytest.raises(DownloadError, match="a.bin: 404"):
            _fetch(url, tmp_path / "a.bin")
    assert len(requests) == 1
    with pytest.raises(DownloadError, match="a.bin: .*0 bytes are in"):
        _fetch(url, tmp_path / "a.bin", attempts=2)  # nobody listens any more


def _archive(path, names):
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 2000
            tar.addfile(member, io.BytesIO(CONTENT[:2000]))
    return path


def test_extraction(tmp_path):
    archive = _archive(tmp_path / "a.tar.gz", ["x/y.bin", "z.bin"])
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "x" / "y.bin").read_bytes() == CONTENT[:2000]


@pytest.mark.parametrize("kind", ["cut short", "no archive", "outside"])
def test_bad_archives_leave_nothing(tmp_path, kind):
    names = ["a.bin", "../evil.bin" if kind == "outside" else "b.bin"]
    archive = _archive(tmp_path / "a.tar.gz", names)
    if kind == "cut short":
        archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    elif kind == "no archive":
        archive.write_bytes(CONTENT)
    with pytest.raises(DownloadError, match="a.tar.gz: cannot be extracted"):
        extract(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]
