"""Writes the recordings in this folder: one spoken sentence in four formats and rates.

    .venv/bin/python testdata/make_testdata.py

eSpeak NG speaks it, so nobody's voice and no corpus is copied. The files are committed, because
they also show that recordings written by other versions of the codecs are still read.
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr_qat.data.audio import load_audio, resample
from asr_qat.data.manifest import Utterance, write_manifest
from asr_qat.tools.espeak import synthesize

TEXT = "three one four"
FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Recording:
    """How a file holds the sentence."""

    name: str
    rate: int  # Hz
    channels: int
    format: str
    subtype: str


RECORDINGS = (
    Recording("mono_8000.wav", 8000, 1, "WAV", "PCM_16"),
    Recording("stereo_22050.mp3", 22050, 2, "MP3", "MPEG_LAYER_III"),
    Recording("stereo_44100.flac", 44100, 2, "FLAC", "PCM_16"),
    Recording("mono_48000.opus", 48000, 1, "OGG", "OPUS"),
)


def encode(speech: np.ndarray, rate: int, recording: Recording) -> bytes:
    """A mono sentence as the content of an audio file; a second channel is quieter."""
    mono = resample(speech, rate, recording.rate)
    gains = np.array([1.0, 0.5], np.float32)[: recording.channels]
    content = io.BytesIO()
    soundfile.write(
        content,
        mono[:, None] * gains,
        recording.rate,
        format=recording.format,
        subtype=recording.subtype,
    )
    return content.getvalue()


def main() -> None:
    """Writes the recordings and their manifest."""
    speech, rate = synthesize(TEXT, speed=200)
    utterances = []
    for recording in RECORDINGS:
        path = FOLDER / recording.name
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(encode(speech, rate, recording))
        os.replace(temporary, path)
        utterances.append(
            Utterance(
                audio_filepath=path,
                duration=round(len(load_audio(path)) / 16000, 3),
                text=TEXT,
                speaker="espeak-en-us",
                id=path.stem,
            )
        )
        print(f"{path.name}: {path.stat().st_size} bytes")
    write_manifest(FOLDER / "manifest.jsonl", utterances)


if __name__ == "__main__":
    main()
