"""`asr-qat evaluate`: word error rates of exported files on whole test sets."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

HELP = "word error rates of exported files on a test set"

EPILOG = """\
example:
  asr-qat evaluate int4.tflite --manifest test.jsonl
  asr-qat evaluate float.tflite int4.tflite --manifest test.jsonl --json   # and their difference"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Transcribes every utterance of the manifest with every file and counts substitutions, "
        "deletions and insertions, with a 95 % bootstrap interval over utterances; with several "
        "files, also the paired difference of each to the first."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("models", nargs="+", help=".tflite files written by `asr-qat export`")
    parser.add_argument("--manifest", required=True, help="the test set, JSON lines")
    parser.add_argument("--threads", type=int, default=1, help="interpreter threads (1)")
    parser.add_argument("--show-errors", action="store_true", help="print each wrong transcript")


def run(args: argparse.Namespace) -> int:
    """Evaluates and prints."""
    from asr_qat.data.manifest import read_manifest

    from .table import print_table

    utterances = read_manifest(args.manifest)
    results = evaluate_files(args.models, utterances, args.threads)
    if args.json:
        print(json.dumps({"manifest": args.manifest, "files": results}))
        return 0
    print(f"{args.manifest}: {len(utterances)} utterances")
    rows: list[tuple[str, ...]] = [
        ("file", "WER %", "95 % interval", "S", "D", "I", "words", "minus first")
    ]
    for result in results:
        difference = result["minus_first"]
        rows.append(
            (
                _label(result, results),
                f"{100 * result['wer']:.2f}",
                "{:.2f} – {:.2f}".format(*(100 * v for v in result["interval"])),
                *(str(result[k]) for k in ("substitutions", "deletions", "insertions", "words")),
                ""
                if difference is None
                else "{difference:+.2f} [{low:+.2f}, {high:+.2f}]".format(
                    **{k: 100 * difference[k] for k in ("difference", "low", "high")}
                ),
            )
        )
    print_table(rows)
    if args.show_errors:
        for result in results:
            for row in result["utterances"]:
                if row["text"] != row["reference"]:
                    name = _label(result, results)
                    print(f"{name} {row['id']}: {row['reference']!r} -> {row['text']!r}")
    return 0


def _label(result, results) -> str:
    """The file's name, and the pass where it has several."""
    name = Path(result["path"]).name
    several = sum(other["path"] == result["path"] for other in results) > 1
    return f"{name} ({result['pass']})" if several else name


def evaluate_files(paths, utterances, threads: int = 1) -> list[dict[str, Any]]:
    """Errors of each file on the utterances.

    Args:
        paths: of .tflite files.
        utterances: `data.manifest.Utterance` objects.
        threads: of the interpreter.

    Returns:
        For each file, and each of its passes: path, pass, wer, interval, counts, the paired
        difference to the first of all (None for that), and every utterance's id, reference and
        text.
    """
    from tqdm import tqdm

    from asr_qat.data.audio import load_audio
    from asr_qat.metrics.wer import (
        bootstrap_interval,
        count_errors,
        paired_bootstrap,
        sum_counts,
    )
    from asr_qat.runtime.recognizer import Recognizer

    from .native_logs import without_native_notes

    results: list[dict[str, Any]] = []
    counts: list[list[Any]] = []
    references = [u.text for u in utterances]
    for path in paths:
        with without_native_notes() as terminal:
            recognizer = Recognizer(path, num_threads=threads)
            name = Path(path).name
            with tqdm(utterances, desc=name, unit="utt", file=terminal, disable=None) as bar:
                heard = [recognizer.transcribe_all(load_audio(u.audio_filepath)) for u in bar]
        for one, texts in zip(recognizer.passes, zip(*heard, strict=True), strict=True):
            counts.append(count_errors(references, texts))
            total, interval = sum_counts(counts[-1]), bootstrap_interval(counts[-1])
            difference = None
            if len(counts) > 1:
                difference = dataclasses.asdict(paired_bootstrap(counts[-1], counts[0]))
            results.append(
                {
                    "path": str(path),
                    "pass": one,
                    "wer": total.wer,
                    "interval": [interval.low, interval.high],
                    **dataclasses.asdict(total),
                    "minus_first": difference,
                    "utterances": [
                        {"id": u.id, "reference": u.text, "text": text}
                        for u, text in zip(utterances, texts, strict=True)
                    ],
                }
            )
    return results


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
