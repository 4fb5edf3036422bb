"""Manifests: JSON-lines lists of utterances."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_REQUIRED = ("audio_filepath", "duration", "text", "speaker", "id")


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file and the row."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One recording with its transcript."""

    audio_filepath: Path  # absolute
    duration: float  # seconds
    text: str  # the reference transcript; may be empty (no speech)
    speaker: str
    id: str  # unique in its manifest
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)  # other keys of the row


def read_manifest(path: str | os.PathLike[str]) -> list[Utterance]:
    """Reads a JSON-lines manifest.

    Each row is an object with `audio_filepath` (absolute, or relative to the manifest's own
    folder), `duration` (seconds), `text`, `speaker` and `id`; other keys are kept in `extra`.

    Raises:
      ManifestError: a row is no such object, an id occurs twice, or there are no rows.
      OSError: the file cannot be read.
    """
    path = Path(path)
    folder = path.resolve().parent
    utterances: list[Utterance] = []
    rows_of_ids: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: expected UTF-8 JSON lines, got {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        utterance = _parse_row(line, folder, f"{path}, row {number}")
        first = rows_of_ids.setdefault(utterance.id, number)
        if first != number:
            raise ManifestError(
                f"{path}, row {number}: id {utterance.id!r} was used before, in row {first}"
            )
        utterances.append(utterance)
    if not utterances:
        raise ManifestError(f"{path}: expected at least one utterance, got an empty manifest")
    return utterances


def write_manifest(path: str | os.PathLike[str], utterances: Iterable[Utterance]) -> None:
    """Writes a JSON-lines manifest, atomically.

    Audio beneath the manifest's folder is written relative to it, so the folder can be moved.

    Raises:
      ManifestError: there are no utterances.
      OSError: the file cannot be written.
    """
    folder = Path(path).resolve().parent
    rows = [utterance_row(item, _audio_of(item, folder)) for item in utterances]
    write_rows(path, rows)


def write_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON lines, atomically; `write_manifest` for those of a manifest.

    Raises:
      ManifestError: there are none.
      OSError: the file cannot be written.
    """
    path = Path(path)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    if not lines:
        raise ManifestError(f"{path}: expected at least one utterance to write, got none")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def utterance_row(utterance: Utterance, audio_filepath: str | None = None) -> dict[str, Any]:
    """The row of an utterance; `audio_filepath`: in place of its own."""
    return {
        "audio_filepath": audio_filepath or str(utterance.audio_filepath),
        "duration": utterance.duration,
        "text": utterance.text,
        "speaker": utterance.speaker,
        "id": utterance.id,
        **utterance.extra,
    }


def _parse_row(line: str, folder: Path, place: str) -> Utterance:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(
            f"{place}: expected a JSON object, got {_short(line)}: {error}"
        ) from None
    if not isinstance(row, dict):
        raise ManifestError(f"{place}: expected a JSON object, got {_short(line)}")
    missing = [key for key in _REQUIRED if key not in row]
    if missing:
        raise ManifestError(f"{place}: missing {', '.join(missing)}; got the keys {sorted(row)}")
    for key in ("audio_filepath", "text", "speaker", "id"):
        if not isinstance(row[key], str) or (key != "text" and not row[key]):
            raise ManifestError(f"{place}: expected {key} to be a string, got {row[key]!r}")
    duration = row["duration"]
    is_number = isinstance(duration, int | float) and not isinstance(duration, bool)
    if not is_number or not math.isfinite(duration) or duration <= 0:
        raise ManifestError(f"{place}: expected a positive duration in seconds, got {duration!r}")
    return Utterance(
        audio_filepath=Path(os.path.normpath(folder / row["audio_filepath"])),
        duration=float(duration),
        text=row["text"],
        speaker=row["speaker"],
        id=row["id"],
        extra={key: value for key, value in row.items() if key not in _REQUIRED},
    )


def _audio_of(utterance: Utterance, folder: Path) -> str:
    """The path of the audio, relative to the manifest's folder where it is beneath it."""
    audio = Path(os.path.abspath(utterance.audio_filepath))
    for path in (audio, audio.resolve()):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return str(audio)


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")
