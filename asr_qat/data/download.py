"""Downloads that go on where they stopped, and are checked."""

import hashlib
import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60.0  # seconds without a byte
_RETRY_SECONDS = 1.0  # before the second attempt; doubles


class DownloadError(OSError):
    """A file that could not be fetched, or is not the file expected."""


def fetch(
    url: str,
    path: str | os.PathLike[str],
    md5: str,
    *,
    attempts: int = 5,
    retry_seconds: float = _RETRY_SECONDS,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Path:
    """Downloads a file, unless it is there already.

    What has come so far is in `<path>.part`; a connection that breaks, and a later call, go on from
    there. The file has its name only once its checksum is right.

    Args:
      url: where it is; http, https or file.
      path: where it shall be.
      md5: its checksum, in hexadecimal digits.
      attempts: connections in a row that may break without a byte more.
      retry_seconds: pause before the second attempt, doubled for each further one.
      progress: is told how many bytes are here, and of how many if the server said so.

    Raises:
      DownloadError: the server refuses, connections keep breaking, or the checksum is wrong.
      OSError: the file cannot be written.
    """
    path = Path(path)
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(url, part, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DownloadError(f"{url}: {error.code} {error.reason}") from error
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        got = part.stat().st_size if part.exists() else 0
        failures = 1 if got > before else failures + 1
        if failures >= attempts:
            raise DownloadError(
                f"{url}: {reason}; {got} bytes are in {part}. The same command goes on from there"
            )
        time.sleep(retry_seconds * 2 ** (failures - 1))
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise DownloadError(
            f"{url}: expected the MD5 checksum {md5}, got {found}; the download was removed"
        )
    os.replace(part, path)
    return path


def extract(archive: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Extracts a tar archive, all or nothing: `folder` appears when it is complete.

    Members that would be outside the folder, links to outside and devices are refused.

    Raises:
      DownloadError: it is no tar archive, is cut short, or has such members.
      OSError: the files cannot be written.
    """
    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.extracting")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
        os.replace(temporary, folder)
    except (tarfile.TarError, EOFError) as error:
        raise DownloadError(f"{archive}: cannot be extracted: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _receive(url: str, part: Path, progress: Callable[[int, int | None], None]) -> None:
    """Appends what is missing to `part`; raises if the connection breaks."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # nothing is missing; the checksum decides
        raise
    with response:
        if getattr(response, "status", None) != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server sends it from the start
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress(have, total)
    if total is not None and have < total:
        raise OSError(f"the connection broke after {have} of {total} bytes")


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
