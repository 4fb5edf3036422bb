"""A corpus of shards: which recording goes where, the writing of one shard, the index of all.

The folder of a corpus named `train` of 16 shards:

    train-00000-of-00016.array_record    recordings with their rows, see `records.py`
    train-00000-of-00016.json            what is in that shard, and what was left out and why
    train.jsonl                          the index of all: a manifest like any other
    train.bad.jsonl                      rows that were left out, each with its `reason`
    .train-plan/                         while it is made: a manifest for each shard to come

Writing one shard is the unit of work. A shard's own index is written after it and says what it was
made of, so work that was interrupted goes on with the shards that have none.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_qat.data.audio import SAMPLE_RATE, encode_flac
from asr_qat.data.errors import AudioError, ShardError
from asr_qat.data.manifest import (
    ManifestError,
    Utterance,
    read_manifest,
    utterance_row,
    write_manifest,
    write_rows,
)
from asr_qat.data.plan import DataError
from asr_qat.data.recordings import load_recording
from asr_qat.data.records import pack_record
from asr_qat.data.shards import record_address, shard_name, write_records

_FORMAT = 1  # of shards and their indices
_SECONDS_OF_SHARD = 4 * 3600.0  # about 260 MB
_FEWEST_SHARDS = 8  # so that several processes have work


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to write. Workers find everything else in files."""

    plan: str  # manifest of its recordings
    shard: str  # file to write


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus that is complete."""

    manifest: Path
    utterances: list[Utterance]
    bad: list[Mapping[str, Any]]  # rows that were left out, each with a `reason`


def default_shards(utterances: Sequence[Utterance]) -> int:
    """How many shards a corpus gets: of about 4 hours, at least 8 of them."""
    seconds = sum(utterance.duration for utterance in utterances)
    return min(len(utterances), max(_FEWEST_SHARDS, math.ceil(seconds / _SECONDS_OF_SHARD)))


def assign_shards(utterances: Sequence[Utterance], count: int, seed: int) -> list[list[Utterance]]:
    """Deals utterances to shards in an order shuffled by a hash of the seed and their ids.

    Raises:
      ManifestError: an id occurs twice.
      ValueError: there are more shards than utterances, or none.
    """
    if not 1 <= count <= len(utterances):
        raise ValueError(f"expected 1 to {len(utterances)} shards (one a recording), got {count}")
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            raise ManifestError(
                f"id {utterance.id!r} is in the manifests twice; expected different ids"
            )
        seen.add(utterance.id)
    order = sorted(utterances, key=lambda u: hashlib.sha256(f"{seed}:{u.id}".encode()).digest())
    return [order[number::count] for number in range(count)]


def plan_corpus(
    utterances: Sequence[Utterance],
    folder: str | os.PathLike[str],
    name: str,
    *,
    shards: int,
    seed: int = 0,
    retry_bad: bool = False,
) -> list[ShardTask]:
    """Writes the plan of a corpus; returns what is still to do, with leftovers removed.

    Args:
      utterances: all recordings.
      folder: the corpus' folder, made as needed.
      name: of the corpus: how its files begin.
      shards: how many.
      seed: of the order of recordings.
      retry_bad: write shards with bad recordings again.

    Raises:
      ManifestError: an id occurs twice.
      DataError: the folder holds another corpus of that name.
      ValueError: the name or the number of shards makes no sense.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(f"expected a name of letters, digits, '_', '-' and '.', got {name!r}")
    folder = Path(os.path.abspath(folder))
    parts = assign_shards(utterances, shards, seed)
    _check_folder(folder, name, shards)
    plans = _plans(folder, name)
    shutil.rmtree(plans, ignore_errors=True)
    tasks = []
    for number, rows in enumerate(parts):
        shard = folder / shard_name(name, number, shards)
        for leftover in folder.glob(f".{shard.stem}.*.tmp"):
            leftover.unlink(missing_ok=True)
        if _is_finished(shard, digest_of(rows), retry_bad):
            continue
        index_of(shard).unlink(missing_ok=True)
        plan = plans / f"{shard.stem}.jsonl"
        write_manifest(plan, rows)
        tasks.append(ShardTask(plan=str(plan), shard=str(shard)))
    return tasks


def write_shard(task: ShardTask) -> None:
    """Writes one shard and its index. Bad recordings are left out and listed in the index.

    Raises:
      ShardError: the recordings come from shards, one of which is missing or damaged.
      OSError: a file cannot be written.
    """
    shard = Path(task.shard)
    utterances = read_manifest(task.plan)
    rows: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []

    def records() -> Iterator[bytes]:
        for utterance in utterances:
            row = utterance_row(utterance)
            try:
                samples = load_recording(utterance)
            except ShardError:
                raise
            except AudioError as error:
                bad.append({**row, "reason": str(error)})
                continue
            row |= {
                "audio_filepath": record_address(shard.name, len(rows)),
                "duration": len(samples) / SAMPLE_RATE,
            }
            rows.append(row)
            yield pack_record(row, encode_flac(samples))

    write_records(shard, records())
    document = {
        "format": _FORMAT,
        "digest": digest_of(utterances),
        "bytes": shard.stat().st_size,
        "rows": rows,
        "bad": bad,
    }
    _write_json(index_of(shard), document)


def try_write_shard(task: ShardTask) -> None:
    """Writes one shard; an error becomes a file beside the plan, and other shards go on."""
    try:
        write_shard(task)
    except (ValueError, OSError) as error:
        _write_json(Path(task.plan).with_suffix(".error"), str(error))


def finish_corpus(
    folder: str | os.PathLike[str],
    name: str,
    *,
    shards: int,
    max_bad_share: float,
    bad: Sequence[Mapping[str, Any]] = (),
) -> Corpus:
    """Makes the manifest of a corpus whose shards are written, and lists what is bad.

    Args:
      folder: the corpus' folder.
      name: of the corpus.
      shards: how many it has.
      max_bad_share: largest share of the rows that may be bad.
      bad: rows that were found to be bad before.

    Raises:
      DataError: a shard was not written, or too large a share of the recordings is bad.
      OSError: the files cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    rows: list[dict[str, Any]] = []
    left_out = list(bad)
    for number in range(shards):
        shard = folder / shard_name(name, number, shards)
        error = _plans(folder, name) / f"{shard.stem}.error"
        if not index_of(shard).is_file():
            reason = json.loads(error.read_text("utf-8")) if error.is_file() else "no worker did"
            raise DataError(
                f"{shard}: was not written: {reason}. The same command goes on with what is missing"
            )
        index = json.loads(index_of(shard).read_text("utf-8"))
        rows += index["rows"]
        left_out += index["bad"]
    shutil.rmtree(_plans(folder, name), ignore_errors=True)
    list_bad(folder / f"{name}.bad.jsonl", left_out, len(rows), max_bad_share)
    utterances = [
        Utterance(
            audio_filepath=folder / row.pop("audio_filepath"),
            **{key: row.pop(key) for key in ("duration", "text", "speaker", "id")},
            extra=row,
        )
        for row in rows
    ]
    manifest = folder / f"{name}.jsonl"
    write_manifest(manifest, utterances)
    return Corpus(manifest=manifest, utterances=utterances, bad=left_out)


def list_bad(path: Path, bad: Sequence[Mapping[str, Any]], good: int, max_bad_share: float) -> None:
    """Writes the list of bad rows; without any, there is none.

    Args:
      path: of the list.
      bad: rows with a `reason`.
      good: how many other rows there are.
      max_bad_share: largest share of the rows that may be bad.

    Raises:
      DataError: after the list is written, if there are more.
    """
    path.unlink(missing_ok=True)
    if not bad:
        return
    write_rows(path, bad)
    total = good + len(bad)
    if not good or len(bad) / total > max_bad_share:
        raise DataError(
            f"{path}: {len(bad)} of {total} recordings are bad ({len(bad) / total:.1%}); at most"
            f" {max_bad_share:.1%} may be, such as: {bad[0]['reason']}. Repair them and give the"
            " same command again (shards: with --retry-bad), or a larger --max-bad-share"
        )


def index_of(shard: Path) -> Path:
    """The file that says what is in a shard."""
    return shard.with_suffix(".json")


def digest_of(utterances: Sequence[Utterance]) -> str:
    """Of all that a shard depends on; the folder of the recordings may move."""
    rows = [
        {**utterance_row(utterance), "audio_filepath": utterance.audio_filepath.name}
        for utterance in utterances
    ]
    return hashlib.sha256(json.dumps([_FORMAT, rows]).encode()).hexdigest()


def finished_shards(tasks: Sequence[ShardTask]) -> int:
    """How many of the tasks are done, or have failed."""
    return sum(
        index_of(Path(task.shard)).is_file() or Path(task.plan).with_suffix(".error").is_file()
        for task in tasks
    )


def _is_finished(shard: Path, digest: str, retry_bad: bool) -> bool:
    try:
        index = json.loads(index_of(shard).read_text("utf-8"))
        same = index["digest"] == digest and index["bytes"] == shard.stat().st_size
        return same and not (retry_bad and index["bad"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_folder(folder: Path, name: str, shards: int) -> None:
    pattern = re.compile(rf"{re.escape(name)}-\d{{5}}-of-(\d{{5}})\.(array_record|json)")
    for path in folder.glob(f"{name}-*"):
        match = pattern.fullmatch(path.name)
        if match and int(match[1]) != shards:
            raise DataError(
                f"{path}: belongs to a corpus {name!r} of {int(match[1])} shards, expected"
                f" {shards}; give that number with --shards, another --name, or remove the old"
                " files"
            )


def _plans(folder: Path, name: str) -> Path:
    return folder / f".{name}-plan"


def _write_json(path: Path, document: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(document, ensure_ascii=False), "utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
