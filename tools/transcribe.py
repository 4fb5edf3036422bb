"""`asr-qat transcribe`: audio files in, text out, with an exported model alone."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr_qat.runtime.search.config import SearchConfig

from .search_flags import add_search_arguments, settings_from

HELP = "transcribe audio files or a manifest with an exported model"

EPILOG = """\
example:
  asr-qat transcribe model.tflite a.wav b.flac      # one line a file: path, tab, text
  asr-qat transcribe model.tflite dev.jsonl --json  # every utterance of a manifest
  asr-qat transcribe model.tflite a.wav --partial   # the text as it grows
  asr-qat transcribe model.tflite a.wav --words     # when each word was said
  asr-qat transcribe model.tflite a.wav --search adaptive --beam 8 --nbest 3
  asr-qat transcribe model.tflite a.wav --search adaptive --lm lm.arpa --phrases names.txt"""

MANIFEST_SUFFIXES = (".jsonl", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Transcribes WAV, FLAC, Ogg, Opus or MP3 files of any rate, chunk by chunk as a "
        "microphone would deliver them. Needs the .tflite file and nothing else."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", help="a .tflite file written by `asr-qat export`")
    parser.add_argument("audio", nargs="+", help="audio files or JSON-lines manifests (.jsonl)")
    parser.add_argument("--threads", type=int, default=1, help="interpreter threads (default 1)")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="also print the text so far, whenever it changes, and how many words changed",
    )
    parser.add_argument("--words", action="store_true", help="also print the words' times")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    add_search_arguments(parser)


def expand(inputs: list[str]) -> Iterator[str]:
    """Audio paths, manifests replaced by their utterances' files."""
    for path in inputs:
        if Path(path).suffix.lower() in MANIFEST_SUFFIXES:
            from asr_qat.data.manifest import read_manifest

            yield from (str(utterance.audio_filepath) for utterance in read_manifest(path))
        else:
            yield path


def run(args: argparse.Namespace) -> int:
    """Prints a transcript for each file."""
    from tqdm import tqdm

    from asr_qat.runtime.recognizer import Recognizer

    from .native_logs import without_native_notes

    search = settings_from(args)
    with without_native_notes():
        recognizer = Recognizer(args.model, num_threads=args.threads)
        scorers = search.scorers_for(recognizer.pieces)
    paths = list(expand(args.audio))
    results = []
    # Only for a person at a terminal, and only where there is something to wait for.
    quiet = True if len(paths) < 4 else None
    with tqdm(paths, desc="transcribing", unit="file", file=sys.stderr, disable=quiet) as bar:
        for path in bar:
            result = transcribe_file(recognizer, path, args.partial, search.config, scorers)
            results.append(result)
            if not args.json:
                with bar.external_write_mode(file=sys.stdout):
                    for line in lines_of(result, args.words):
                        print(f"{path}\t{line}", flush=True)
    if args.json:
        audio = sum(result["audio_seconds"] for result in results)
        spent = sum(result["processing_seconds"] for result in results)
        document = {
            "model": args.model,
            "threads": args.threads,
            "search": {**dataclasses.asdict(search.config), "name": search.name},
            "utterances": results,
            "audio_seconds": audio,
            "processing_seconds": spent,
            "real_time_factor": spent / audio if audio else 0.0,
        }
        json.dump(document, sys.stdout, ensure_ascii=False, indent=1)
        print()
    return 0


def lines_of(result: dict[str, Any], words: bool) -> Iterator[str]:
    """What is printed of a file: partials, words if wanted, other transcripts; the text last."""
    for partial in result.get("partials", ()):
        yield f"[{partial['seconds']:.2f} s]\t{partial['text']}"
    if "revised_words" in result:
        yield f"[words revised: {result['revised_words']}]"
    for word in result["words"] if words else ():
        yield f"[{word['start']:.2f} – {word['end']:.2f} s]\t{word['text']}"
    for rank, one in enumerate(result["nbest"] if len(result["nbest"]) > 1 else (), 1):
        yield f"[{rank}: {one['total']:.2f}]\t{one['text']}"
    yield result["text"]


def transcribe_file(
    recognizer: Any, path: str, partials: bool, search: SearchConfig, scorers: Sequence[Any] = ()
) -> dict[str, Any]:
    """Transcribes one file.

    Returns:
      path, text, words with their times, n-best, audio and processing seconds; if wanted partials
      and revised_words.

    Raises:
      AudioError: the file is no readable audio.
    """
    from asr_qat.data.audio import load_audio

    samples = load_audio(path, recognizer.sample_rate)
    started = time.perf_counter()
    stream = recognizer.stream(search=search, scorers=scorers)
    grown: list[dict] = []
    for end in range(0, samples.size, recognizer.chunk_samples):
        text = stream.accept(samples[end : end + recognizer.chunk_samples])
        if partials and text != (grown[-1]["text"] if grown else ""):
            heard = min(end + recognizer.chunk_samples, samples.size)
            grown.append({"seconds": heard / recognizer.sample_rate, "text": text})
    text = stream.finish()
    result = {
        "path": path,
        "text": text,
        "words": [word._asdict() for word in stream.words],
        "nbest": [nbest_entry(one) for one in stream.nbest()],
        "audio_seconds": samples.size / recognizer.sample_rate,
        "processing_seconds": time.perf_counter() - started,
    }
    if partials:
        result["partials"] = grown
        result["revised_words"] = stream.revised_words
    return result


def nbest_entry(one: Any) -> dict[str, Any]:
    """A transcript for JSON."""
    return {**one._asdict(), "words": [word._asdict() for word in one.words]}


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
