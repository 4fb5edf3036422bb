"""Common Voice: a table of clips (`train.tsv`, `dev.tsv` ...) to a manifest."""

import csv
import os
import unicodedata
from pathlib import Path
from typing import Any

import soundfile

from asr_qat.data.manifest import ManifestError, Utterance

_COLUMNS = ("client_id", "path", "sentence")
_DURATIONS = "clip_durations.tsv"


def scan_common_voice(
    table: str | os.PathLike[str],
    clips: str | os.PathLike[str] | None = None,
    *,
    punctuation: bool = False,
) -> tuple[list[Utterance], list[dict[str, Any]]]:
    """Reads a table of Common Voice.

    Durations come from `clip_durations.tsv` beside the table, where that is, else from the clips.

    Args:
      table: tab-separated, with the columns client_id, path, sentence.
      clips: folder of the clips; None: `clips` beside the table.
      punctuation: keep the sentence's punctuation.

    Returns:
      the utterances, and the rows that are none: no clip, an unreadable one, no words. Those have
      a `reason`.

    Raises:
      ManifestError: the table lacks a column, or no row of it is good.
      OSError: the table cannot be read.
    """
    table = Path(os.path.abspath(table))
    clips = table.parent / "clips" if clips is None else Path(os.path.abspath(clips))
    durations = _read_durations(table.parent / _DURATIONS)
    utterances: list[Utterance] = []
    bad: list[dict[str, Any]] = []
    for number, row in enumerate(_read_table(table, _COLUMNS), 2):
        audio = clips / row["path"]
        text = normalized_text(row["sentence"], punctuation=punctuation)
        duration, reason = _duration(audio, durations)
        if not text:
            reason = f"no words in the sentence {row['sentence']!r}"
        if reason:
            found = {"audio_filepath": str(audio), "id": audio.stem, "text": row["sentence"]}
            bad.append({**found, "reason": f"{table}, row {number}: {reason}"})
            continue
        utterances.append(
            Utterance(
                audio_filepath=audio,
                duration=duration,
                text=text,
                speaker=row["client_id"],
                id=audio.stem,
            )
        )
    if not utterances:
        example = f", such as: {bad[0]['reason']}" if bad else ""
        raise ManifestError(f"{table}: expected rows with clips, got {len(bad)} bad ones{example}")
    return utterances, bad


def normalized_text(sentence: str, *, punctuation: bool = False) -> str:
    """A sentence in lower case, with single spaces and straight apostrophes.

    Without `punctuation`, nothing is left but letters, marks, digits, spaces, and apostrophes
    inside words.
    """
    text = unicodedata.normalize("NFC", sentence).replace("\u2019", "'").lower()
    if not punctuation:
        kept = (c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
        text = " ".join(word.strip("'") for word in "".join(kept).split())
    return " ".join(text.split())


def _duration(audio: Path, durations: dict[str, float]) -> tuple[float, str]:
    """Seconds of a clip, and what is wrong with it."""
    if not audio.is_file():
        return 0.0, f"{audio}: there is no such clip"
    if audio.name in durations:
        seconds = durations[audio.name]
    else:
        try:
            seconds = soundfile.info(audio).duration
        except soundfile.LibsndfileError as error:
            return 0.0, f"{audio}: cannot be read: {error.error_string}"
    return seconds, "" if seconds > 0 else f"{audio}: holds no samples"


def _read_durations(path: Path) -> dict[str, float]:
    """Seconds by file name; empty where there is no such table."""
    if not path.is_file():
        return {}
    key = "duration[ms]"
    rows = _read_table(path, ("clip", key))
    try:
        return {row["clip"]: float(row[key]) / 1000.0 for row in rows}
    except ValueError as error:
        raise ManifestError(f"{path}: expected {key} to be a number: {error}") from None


def _read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    # Sentences hold quotation marks that quote nothing.
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval=""))
        missing = [name for name in columns if rows and rows[0].get(name) is None]
    if not rows or missing:
        raise ManifestError(
            f"{path}: expected a header and rows with the columns {', '.join(columns)}, tab-"
            f"separated, got {f'none named {missing[0]}' if missing else 'no rows'}"
        )
    return rows
