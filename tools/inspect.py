"""`asr-qat inspect`: what is inside .tflite files, and how they differ."""

import argparse
import json
import sys
from pathlib import Path

HELP = "show and compare tensors, bits, bytes and delegation of .tflite files"

EPILOG = """\
example:
  asr-qat inspect model.tflite                         # everything in one file
  asr-qat inspect float.tflite int4.tflite             # files side by side
  asr-qat inspect model.tflite --picture bytes.svg     # where the bytes are"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Shows what .tflite files hold: tensors, operators, weights, bits per parameter, streaming "
        "states, which operators XNNPACK takes over, and the size after compression (where the "
        "zeros of pruned weights take less space); of several files, the differences. Works on "
        "files of others, too: nothing vouches for those, so they are read in a process of their "
        "own, with limits."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("models", nargs="+", metavar="model", help="a .tflite file")
    parser.add_argument(
        "--tensors",
        action=argparse.BooleanOptionalAction,
        help="list every constant (of several files: every one that differs); default: for one "
        "file, and in JSON",
    )
    parser.add_argument(
        "--picture", metavar="FILE", help="draw where the bytes are, as .png, .svg or .pdf"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the report or the comparison."""
    from asr_qat.export.inspect import inspect_file
    from asr_qat.export.inspection.compare import compare, comparison_document
    from asr_qat.export.inspection.file_report import document

    from .inspect_text import print_comparison, print_report
    from .native_logs import without_native_notes

    with without_native_notes():
        reports = [inspect_file(path) for path in args.models]
    comparison = compare(reports) if len(reports) > 1 else None
    if args.picture is not None:
        from .inspect_picture import draw

        draw(reports, Path(args.picture))
    if args.json:
        tensors = args.tensors is not False
        documents = [document(report, tensors) for report in reports]
        if comparison is None:
            found = documents[0]
        else:
            found = {"files": documents, "comparison": comparison_document(comparison, tensors)}
        json.dump(found, sys.stdout, ensure_ascii=False, indent=1)
        print()
    elif comparison is None:
        print_report(reports[0], tensors=args.tensors is not False)
    else:
        print_comparison(comparison, tensors=bool(args.tensors))
    if args.picture is not None:
        print(f"wrote {args.picture}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
