"""LibriSpeech (and LibriSpeech-like corpora) in the official folder layout."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from asr_qat.data.download import DownloadError, extract, fetch
from asr_qat.data.manifest import ManifestError, Utterance

MIRROR = "https://www.openslr.org/resources/12"

# MD5 checksums of <subset>.tar.gz, as https://www.openslr.org/resources/12/md5sum.txt has them.
CHECKSUMS = {
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}


def download_librispeech(
    subsets: Sequence[str],
    root: str | os.PathLike[str],
    *,
    mirror: str = MIRROR,
    checksums: Mapping[str, str] = CHECKSUMS,
    progress: Callable[[str, int, int | None], None] = lambda subset, done, total: None,
    **settings: float,
) -> list[Path]:
    """Downloads and extracts subsets that are not there yet.

    Args:
      subsets: such as `train-clean-100`.
      root: gets `LibriSpeech/<subset>`, and the archives while they are needed.
      mirror: URL of the folder that has the archives.
      checksums: MD5 of the archive of every subset there is.
      progress: is told the subset, how many bytes of it are here, and of how many.
      settings: of `fetch`.

    Returns:
      the folders of the subsets.

    Raises:
      DownloadError: an archive cannot be fetched, or is not the one expected.
      ValueError: there is no such subset.
    """
    unknown = sorted(set(subsets) - set(checksums))
    if unknown:
        raise ValueError(f"expected subsets of {', '.join(checksums)}; got {', '.join(unknown)}")
    return [
        _download(subset, Path(root), mirror, checksums[subset], progress, settings)
        for subset in subsets
    ]


def _download(subset, root, mirror, checksum, progress, settings):
    target = root / "LibriSpeech" / subset
    if target.is_dir():
        return target
    archive = fetch(
        f"{mirror.rstrip('/')}/{subset}.tar.gz",
        root / f"{subset}.tar.gz",
        checksum,
        progress=lambda done, total: progress(subset, done, total),
        **settings,
    )
    extracted = root / f".{subset}.extracted"
    shutil.rmtree(extracted, ignore_errors=True)
    try:
        extract(archive, extracted)
        found = extracted / "LibriSpeech" / subset
        if not found.is_dir():
            raise DownloadError(f"{archive}: expected a folder LibriSpeech/{subset}, found none")
        target.parent.mkdir(exist_ok=True)
        for other in found.parent.iterdir():  # README.TXT, SPEAKERS.TXT ...; the subset comes last
            if other.is_file():
                os.replace(other, target.parent / other.name)
        os.replace(found, target)
    finally:
        shutil.rmtree(extracted, ignore_errors=True)
    archive.unlink()
    return target


def scan_librispeech(
    root: str | os.PathLike[str], bad: list[dict[str, Any]] | None = None
) -> list[Utterance]:
    """Lists the utterances of a LibriSpeech folder.

    The layout is `<part>/<speaker>/<chapter>/<id>.flac` with one `<speaker>-<chapter>.trans.txt` a
    chapter; `root` may be the folder of the parts, one part, or one speaker. Texts are lower-cased.

    Args:
      root: the folder.
      bad: gets rows that are not good, each with a `reason`; None: these are errors.

    Returns:
      utterances, sorted by path.

    Raises:
      ManifestError: there are no transcripts, a transcript has no audio, or audio no transcript.
    """
    root = Path(os.path.abspath(root))
    transcripts = sorted(root.rglob("*.trans.txt"))
    if not transcripts:
        raise ManifestError(
            f"{root}: expected the LibriSpeech layout <part>/<speaker>/<chapter>/*.trans.txt, found"
            " no .trans.txt file" + ("" if root.is_dir() else "; there is no such folder")
        )
    utterances: list[Utterance] = []
    for transcript in transcripts:
        utterances += _scan_chapter(transcript, bad)
    chapters = {transcript.parent for transcript in transcripts}
    for audio in root.rglob("*.flac"):
        if audio.parent not in chapters:
            _reject(f"{audio}: expected a .trans.txt file beside it, found none", audio, bad)
    return sorted(utterances, key=lambda utterance: utterance.audio_filepath)


def _scan_chapter(transcript: Path, bad: list[dict[str, Any]] | None) -> list[Utterance]:
    utterances = []
    recordings = {path.stem for path in transcript.parent.glob("*.flac")}
    for number, line in enumerate(transcript.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        identifier, _, text = line.strip().partition(" ")
        audio = transcript.parent / f"{identifier}.flac"
        place = f"{transcript}, row {number}"
        if identifier not in recordings:
            reason = f"{place}: expected the recording {identifier}.flac beside it, found none"
            _reject(reason, audio, bad)
            continue
        recordings.discard(identifier)
        try:
            seconds = soundfile.info(audio).duration
        except soundfile.LibsndfileError as error:
            _reject(f"{place}: {audio} cannot be read: {error}", audio, bad)
            continue
        if seconds <= 0:
            _reject(f"{place}: {audio} holds no samples", audio, bad)
            continue
        utterances.append(
            Utterance(
                audio_filepath=audio,
                duration=seconds,
                text=text.strip().lower(),
                speaker=identifier.split("-")[0],
                id=identifier,
            )
        )
    for identifier in sorted(recordings):
        reason = f"{transcript}: expected a transcript for every recording, found none for"
        _reject(f"{reason} {identifier}", transcript.parent / f"{identifier}.flac", bad)
    return utterances


def _reject(reason: str, audio: Path, bad: list[dict[str, Any]] | None) -> None:
    if bad is None:
        raise ManifestError(reason)
    bad.append({"audio_filepath": str(audio), "id": audio.stem, "reason": reason})
