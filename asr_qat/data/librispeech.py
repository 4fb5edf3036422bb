"""LibriSpeech (and LibriSpeech-like corpora) in the official folder layout."""

import os
from pathlib import Path

import soundfile

from asr_qat.data.manifest import ManifestError, Utterance


def scan_librispeech(root: str | os.PathLike[str]) -> list[Utterance]:
    """Lists the utterances of a LibriSpeech folder.

    The layout is `<part>/<speaker>/<chapter>/<id>.flac` with one `<speaker>-<chapter>.trans.txt` a
    chapter; `root` may be the folder of the parts, one part, or one speaker. Texts are lower-cased.

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
        utterances += _scan_chapter(transcript)
    chapters = {transcript.parent for transcript in transcripts}
    for audio in root.rglob("*.flac"):
        if audio.parent not in chapters:
            raise ManifestError(f"{audio}: expected a .trans.txt file beside it, found none")
    return sorted(utterances, key=lambda utterance: utterance.audio_filepath)


def _scan_chapter(transcript: Path) -> list[Utterance]:
    utterances = []
    recordings = {path.stem for path in transcript.parent.glob("*.flac")}
    for number, line in enumerate(transcript.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        identifier, _, text = line.strip().partition(" ")
        place = f"{transcript}, row {number}"
        if identifier not in recordings:
            raise ManifestError(
                f"{place}: expected the recording {identifier}.flac beside it, found none"
            )
        recordings.discard(identifier)
        audio = transcript.parent / f"{identifier}.flac"
        try:
            information = soundfile.info(audio)
        except soundfile.LibsndfileError as error:
            raise ManifestError(f"{place}: {audio} cannot be read: {error}") from error
        if information.frames <= 0:
            raise ManifestError(f"{place}: {audio} holds no samples")
        utterances.append(
            Utterance(
                audio_filepath=audio,
                duration=information.frames / information.samplerate,
                text=text.strip().lower(),
                speaker=identifier.split("-")[0],
                id=identifier,
            )
        )
    if recordings:
        raise ManifestError(
            f"{transcript}: expected a transcript for every recording, found none for"
            f" {', '.join(sorted(recordings)[:5])}"
        )
    return utterances
