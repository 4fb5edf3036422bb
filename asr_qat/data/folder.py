"""A folder of recordings without texts, such as noise and impulse responses, to a manifest."""

import os
from pathlib import Path
from typing import Any

import soundfile

from asr_qat.data.manifest import ManifestError, Utterance

_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def scan_folder(
    root: str | os.PathLike[str],
) -> tuple[list[Utterance], list[dict[str, Any]]]:
    """Lists the audio files of a folder and of those in it, with empty texts.

    The speaker is the folder of a file, its id its path in `root`.

    Returns:
      the utterances, sorted by path, and rows of files that cannot be read, with a `reason`.

    Raises:
      ManifestError: there are no audio files that can be read.
    """
    root = Path(os.path.abspath(root))
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES)
    utterances: list[Utterance] = []
    bad: list[dict[str, Any]] = []
    for path in paths:
        identifier = path.relative_to(root).as_posix()
        try:
            seconds = soundfile.info(path).duration
            reason = "" if seconds > 0 else f"{path}: holds no samples"
        except soundfile.LibsndfileError as error:
            seconds, reason = 0.0, f"{path}: cannot be read: {error.error_string}"
        if reason:
            bad.append({"audio_filepath": str(path), "id": identifier, "reason": reason})
            continue
        utterances.append(
            Utterance(
                audio_filepath=path,
                duration=seconds,
                text="",
                speaker=path.parent.name,
                id=identifier,
            )
        )
    if not utterances:
        raise ManifestError(
            f"{root}: expected {', '.join(_SUFFIXES)} files that can be read, found none"
            + ("" if root.is_dir() else "; there is no such folder")
        )
    return utterances, bad
