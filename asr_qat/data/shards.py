"""Shards: ArrayRecord files of many recordings each, and addresses of recordings in them.

An address is a shard's path, `#` and the number of a record from 0, such as
`train-00003-of-00016.array_record#17`. It stands wherever the path of an audio file does.
"""

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr_qat.data.errors import AudioError, ShardError

_SUFFIX = ".array_record"
_ADDRESS = re.compile(rf"(.+{re.escape(_SUFFIX)})#(\d+)", re.DOTALL)
# An open shard holds a file descriptor (1,024 is a common limit) and the index of its records.
_MOST_OPEN = 256
# Readers for random access; threads may share one.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


def shard_name(name: str, number: int, count: int) -> str:
    """The file name of a shard, such as `train-00003-of-00016.array_record`."""
    return f"{name}-{number:05d}-of-{count:05d}{_SUFFIX}"


def record_address(shard: str | os.PathLike[str], record: int) -> str:
    """The address of a record."""
    return f"{os.fspath(shard)}#{record}"


def parse_address(path: str | os.PathLike[str]) -> tuple[Path, int] | None:
    """The shard and the number of the record that an address names; None for other paths."""
    match = _ADDRESS.fullmatch(os.fspath(path))
    return (Path(match[1]), int(match[2])) if match else None


def read_record(shard: str | os.PathLike[str], record: int) -> bytes:
    """Reads one record. Threads may share a shard; it is opened once.

    Raises:
      ShardError: the shard is missing or damaged, or has no such record.
      AudioError: this record is damaged.
    """
    shard = os.fspath(shard)
    reader = _reader(shard)
    count = reader.num_records()
    if record >= count:
        raise ShardError(
            f"{record_address(shard, record)}: the shard has {count} records, 0 to {count - 1}."
            " Its manifest is of another preparation; run asr-qat prepare again"
        )
    try:
        content = reader.read([record])[0]
    except RuntimeError as error:
        raise AudioError(
            f"{record_address(shard, record)}: the record is damaged: {_cause(error)}"
        ) from error
    if not content:  # what a reader gives when the file was cut short under it
        raise AudioError(f"{record_address(shard, record)}: the record is empty")
    return content


def read_records(shard: str | os.PathLike[str]) -> Iterator[bytes]:
    """All records of a shard, in order. Raises as `read_record` does."""
    for record in range(_reader(os.fspath(shard)).num_records()):
        yield read_record(shard, record)


def write_records(shard: str | os.PathLike[str], records: Iterator[bytes]) -> None:
    """Writes a shard for random access, atomically.

    Raises:
      OSError: the file cannot be written.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    shard = Path(shard)
    temporary = shard.with_name(f".{shard.name}.{os.getpid()}.tmp")
    try:
        # FLAC does not compress further, and one record a group is what random access reads.
        writer = ArrayRecordWriter(os.fspath(temporary), "group_size:1,uncompressed")
        try:
            for record in records:
                writer.write(record)
        finally:
            writer.close()
        os.replace(temporary, shard)
    except RuntimeError as error:
        raise OSError(f"{shard}: cannot be written: {_cause(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _reader(shard: str) -> Any:
    """The open reader of a shard. Asks the file system each time: shards vanish, or are renewed."""
    try:
        state = os.stat(shard)
    except OSError as error:
        raise ShardError(
            f"{shard}: the shard is missing ({error.strerror}). Restore it, or run asr-qat prepare"
            " again, then give the same command again; training goes on from its last checkpoint"
        ) from error
    return _open(shard, state.st_ino, state.st_size, state.st_mtime_ns, os.getpid())


@functools.lru_cache(maxsize=_MOST_OPEN)
def _open(shard: str, inode: int, size: int, mtime_ns: int, process: int) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    reader: Any = None
    try:
        reader = ArrayRecordReader(shard, _READER_OPTIONS)
        if not reader.ok():
            reader.read([0])  # says what is wrong
            raise RuntimeError("it cannot be opened")
    except (RuntimeError, ValueError) as error:
        raise ShardError(
            f"{shard}: expected an ArrayRecord file, got {size} bytes that are damaged or cut"
            f" short: {_cause(error)}. Restore it, or remove it and run asr-qat prepare again"
        ) from error
    return reader


def _cause(error: Exception) -> str:
    return str(error).split(";")[0].strip()
