"""What exported files hear of test sets: transcribed now, or read from what was saved before."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from asr_qat.data.audio import AudioError, load_audio
from asr_qat.data.manifest import Utterance
from asr_qat.runtime.recognizer import Recognizer

from .native_logs import without_native_notes
from .search_flags import SearchSettings

SAVED_SUFFIX = ".json"


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The transcripts of one pass of one file, utterance by utterance."""

    path: str  # of the .tflite file
    decoding_pass: str
    search: str
    saved_in: str | None = None  # the file they were read from, if they were not made now
    texts: Sequence[str]
    audio_seconds: Sequence[float]
    processing_seconds: Sequence[float]  # of all passes of the file together

    def part(self, start: int, stop: int) -> "Heard":
        """The utterances from `start` to before `stop`."""
        return dataclasses.replace(
            self,
            texts=self.texts[start:stop],
            audio_seconds=self.audio_seconds[start:stop],
            processing_seconds=self.processing_seconds[start:stop],
        )


@dataclass(frozen=True, kw_only=True)
class Transcriber:
    """A loaded file with a search."""

    passes: Sequence[str]
    search: str
    sample_rate: int  # Hz
    transcribe: Callable[[np.ndarray], Sequence[str]]  # samples [n] to the text of every pass


def transcriber(path: str, threads: int, search: SearchSettings) -> Transcriber:
    """Loads a .tflite file, and what the search listens to beside it.

    Raises:
      ModelFileError: the file is absent, damaged, not ours or no recogniser.
      ValueError: `threads` < 1, or a language model or phrases do not fit the file.
      OSError: one of these cannot be read.
    """
    recognizer = Recognizer(path, num_threads=threads)
    scorers = search.scorers_for(recognizer.pieces)
    return Transcriber(
        passes=recognizer.passes,
        search=search.name,
        sample_rate=recognizer.sample_rate,
        transcribe=partial(recognizer.transcribe_all, search=search.config, scorers=scorers),
    )


def hear(
    path: str,
    utterances: Sequence[Utterance],
    threads: int,
    search: SearchSettings = SearchSettings(),  # noqa: B008 (frozen)
) -> list[Heard]:
    """Transcribes the utterances, or reads their transcripts if `path` is a saved result.

    Returns:
      One for each pass; of a saved result, one for each file in it and each of its passes.

    Raises:
      AudioError: a recording cannot be read; names the utterance.
      ValueError: the file cannot be used, or the saved result is of other utterances.
      OSError: the saved result cannot be read.
    """
    if Path(path).suffix.lower() == SAVED_SUFFIX:
        return read_heard(path, utterances)
    with without_native_notes() as terminal:
        loaded = transcriber(path, threads, search)
        texts, audio, spent = [], [], []
        name = Path(path).name
        with tqdm(utterances, desc=name, unit="utt", file=terminal, disable=None) as bar:
            for utterance in bar:
                samples = _samples(utterance, loaded.sample_rate)
                started = time.perf_counter()
                texts.append(loaded.transcribe(samples))
                spent.append(time.perf_counter() - started)
                audio.append(samples.size / loaded.sample_rate)
    return [
        Heard(
            path=str(path),
            decoding_pass=one,
            search=loaded.search,
            texts=of_pass,
            audio_seconds=audio,
            processing_seconds=spent,
        )
        for one, of_pass in zip(loaded.passes, zip(*texts, strict=True), strict=True)
    ]


def read_heard(path: str, utterances: Sequence[Utterance]) -> list[Heard]:
    """The transcripts in a result of `asr-qat evaluate --save`, in the order of the utterances.

    Raises:
      ValueError: it is no such result, or lacks an utterance (the same id and reference).
      OSError: the file cannot be read.
    """
    try:
        files = json.loads(Path(path).read_text(encoding="utf-8"))["files"]
        return [_saved(path, file, utterances) for file in files]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a result of `asr-qat evaluate --save`, got {error!r}"
        ) from error


def _saved(path: str, file: dict[str, Any], utterances: Sequence[Utterance]) -> Heard:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in file["utterances"]:
        known = rows.setdefault((row["id"], row["reference"]), row)
        if known["text"] != row["text"]:
            raise ValueError(f"{path}: has two utterances {row['id']!r} with the same reference")
    found = []
    for utterance in utterances:
        if (utterance.id, utterance.text) not in rows:
            raise ValueError(
                f"{path}: expected utterance {utterance.id!r} with the reference "
                f"{utterance.text!r}, got a result without it"
            )
        found.append(rows[utterance.id, utterance.text])
    return Heard(
        path=file["path"],
        decoding_pass=file["pass"],
        search=file["search"],
        saved_in=str(path),
        texts=[row["text"] for row in found],
        audio_seconds=[row["audio_seconds"] for row in found],
        processing_seconds=[row["processing_seconds"] for row in found],
    )


def _samples(utterance: Utterance, sample_rate: int) -> np.ndarray:
    try:
        return load_audio(utterance.audio_filepath, sample_rate)
    except AudioError as error:
        raise AudioError(f"utterance {utterance.id!r}: {error}") from error
