"""`asr-qat evaluate`: error rates of exported files on whole test sets, and their differences."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .search_flags import SearchSettings, add_search_arguments, settings_from

if TYPE_CHECKING:  # a verb imports nothing heavy before it runs
    from asr_qat.data.manifest import Utterance

    from .scores import Scoring

HELP = "error rates of exported files on test sets, and whether they differ"

EPILOG = """\
example:
  asr-qat evaluate int4.tflite --manifest test.jsonl
  asr-qat evaluate float.tflite int4.tflite --manifest test.jsonl   # and their difference
  asr-qat evaluate float.tflite int4.tflite --manifest clean.jsonl --manifest noisy.jsonl \\
      --normalize lower,punctuation --by speaker --by length --unit speaker
  asr-qat evaluate float.tflite --manifest test.jsonl --save float.json
  asr-qat evaluate float.json int4.tflite --manifest test.jsonl     # float is not heard again
  asr-qat evaluate greedy.json int4.tflite --manifest test.jsonl --search adaptive --lm lm.arpa

docs/evaluation.md says what is counted and how intervals and p are computed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Transcribes every utterance of the manifests with every file and counts substitutions, "
        "deletions and insertions, with a 95 % bootstrap interval; of each file after the first "
        "also the paired difference to the first, its interval, the p of the matched-pairs test "
        "and the utterances in which they differ."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "models",
        nargs="+",
        help=".tflite files written by `asr-qat export`, or results of --save (.json)",
    )
    parser.add_argument(
        "--manifest",
        required=True,
        action="append",
        help="a test set, JSON lines; several times: a table for each and one for all",
    )
    parser.add_argument("--threads", type=int, default=1, help="interpreter threads (1)")
    parser.add_argument(
        "--normalize",
        metavar="STEPS",
        default="none",
        help="what is made equal in references and hypotheses before errors are counted: none "
        "(the default) or some of apostrophes,lower,punctuation,unicode; numbers stay as they are",
    )
    parser.add_argument(
        "--unit",
        choices=("utterance", "speaker"),
        default="utterance",
        help="what is resampled for intervals and paired for p (utterance)",
    )
    parser.add_argument(
        "--by",
        choices=("speaker", "length"),
        action="append",
        default=[],
        help="also error rates by speaker, or by the number of reference words",
    )
    parser.add_argument("--cer", action="store_true", help="also a table of character errors")
    parser.add_argument(
        "--differences",
        type=int,
        default=10,
        metavar="N",
        help="print the N most changed utterances in which files differ (10; --json has all)",
    )
    parser.add_argument("--show-errors", action="store_true", help="print each wrong transcript")
    add_search_arguments(parser)
    parser.add_argument("--save", metavar="FILE", help="write the JSON document to a .json file")


def run(args: argparse.Namespace) -> int:
    """Evaluates, saves and prints."""
    from asr_qat.data.manifest import read_manifest
    from asr_qat.metrics.normalization import parse_normalization

    from .evaluate_text import print_evaluation
    from .scores import Scoring, check

    scoring = Scoring(normalization=parse_normalization(args.normalize), unit=args.unit)
    _check_arguments(args)
    sets = {manifest: read_manifest(manifest) for manifest in args.manifest}
    for manifest, utterances in sets.items():
        check(utterances, scoring, manifest)
    document = evaluate_sets(args.models, sets, scoring, args.threads, settings_from(args))
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    if args.save:
        _save(Path(args.save), text)
    if args.json:
        print(text)
    else:
        print_evaluation(
            document,
            by=args.by,
            cer=args.cer,
            differences=args.differences,
            show_errors=args.show_errors,
        )
    return 0


def evaluate_sets(
    paths: Sequence[str],
    sets: "dict[str, list[Utterance]]",
    scoring: "Scoring",
    threads: int = 1,
    search: SearchSettings = SearchSettings(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """The JSON document: scores over all utterances, and in `sets` those of each test set.

    Args:
        paths: of .tflite files, or of documents saved before.
        sets: utterances by the name of their manifest.
        scoring: how they are scored.
        threads: of the interpreter.
        search: of the files; what was saved before stays as it is.

    Raises:
        ValueError: a file, a recording or a reference cannot be used.
    """
    from .heard import hear
    from .scores import score

    everything = [u for utterances in sets.values() for u in utterances]
    manifests = [name for name, utterances in sets.items() for _ in utterances]
    heard = [one for path in paths for one in hear(path, everything, threads, search)]
    total = score(heard, everything, scoring)
    for file in total["files"]:
        for row, manifest in zip(file["utterances"], manifests, strict=True):
            row["manifest"] = manifest
    for row in total["differences"]:
        row["manifest"] = manifests[row["index"]]
    parts, start = [], 0
    for name, utterances in sets.items():
        stop = start + len(utterances)
        own = [one.part(start, stop) for one in heard]
        part = score(own, utterances, scoring) if len(sets) > 1 else total
        parts.append({"manifest": name, **_without_rows(part)})
        start = stop
    return {
        "manifest": " + ".join(sets),
        "normalization": list(scoring.normalization.steps),
        "unit": scoring.unit,
        "confidence": scoring.confidence,
        "resamples": scoring.resamples,
        **total,
        "sets": parts,
    }


def evaluate_files(
    paths: Iterable[str | os.PathLike[str]], utterances: "Sequence[Utterance]", threads: int = 1
) -> list[dict[str, Any]]:
    """Errors of each file on the utterances; nothing is normalized.

    Args:
        paths: of .tflite files, or of documents saved before.
        utterances: the test set.
        threads: of the interpreter.

    Returns:
        For each file, and each of its passes: path, pass, wer, interval, counts, the paired
        difference to the first of all (None for that), and every utterance's id, reference and
        text; see `scores.score`.

    Raises:
        ValueError: there are no reference words, or a file or a recording cannot be used.
    """
    from .heard import hear
    from .scores import Scoring, check, score

    check(utterances, Scoring(), "utterances")
    heard = [one for path in paths for one in hear(str(path), utterances, threads)]
    return score(heard, utterances, Scoring())["files"]


def _check_arguments(args: argparse.Namespace) -> None:
    """What would be a pity to find out after an hour of transcribing."""
    from .heard import SAVED_SUFFIX

    repeated = {name for name in args.manifest if args.manifest.count(name) > 1}
    if repeated:
        raise ValueError(f"--manifest: got {repeated.pop()} more than once")
    if args.differences < 0:
        raise ValueError(f"--differences: expected 0 or more, got {args.differences}")
    if args.save:
        path = Path(args.save)
        if path.suffix.lower() != SAVED_SUFFIX or not path.parent.is_dir():
            raise ValueError(
                f"--save: expected a {SAVED_SUFFIX} file in an existing folder, got {path}"
            )


def _without_rows(scores: dict[str, Any]) -> dict[str, Any]:
    """The scores without single utterances; the document has those once, of all test sets."""
    files = [{k: v for k, v in file.items() if k != "utterances"} for file in scores["files"]]
    return {**{k: v for k, v in scores.items() if k != "differences"}, "files": files}


def _save(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
