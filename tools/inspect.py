"""`asr-qat inspect`: what is inside a .tflite file."""

import argparse
import dataclasses
import json
import sys

from .table import print_table

HELP = "show tensors, bits, bytes and delegation of a .tflite file"

EPILOG = """\
example:
  asr-qat inspect model.tflite              # totals of each signature
  asr-qat inspect model.tflite --tensors    # and every constant tensor"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Shows what a .tflite file holds: operators, weights, bits per parameter, streaming "
        "states, and which operators XNNPACK takes over. Works on files of others, too."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", help="a .tflite file")
    parser.add_argument("--tensors", action="store_true", help="list every constant tensor")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    from asr_qat.export.inspect import inspect_file

    from .native_logs import without_native_notes

    with without_native_notes():
        report = inspect_file(args.model)
    if args.json:
        document = dataclasses.asdict(report)
        document["path"] = str(report.path)
        document["encoder_weight_bytes"] = report.encoder_weight_bytes
        for part, described in zip(report.parts, document["parts"], strict=True):
            if part.delegation is not None:
                described["delegation"]["share"] = part.delegation.share
        if not args.tensors:
            del document["tensors"]
        json.dump(document, sys.stdout, ensure_ascii=False, indent=1)
        print()
    else:
        print_report(report, tensors=args.tensors)
    return 0


def print_report(report, tensors: bool) -> None:
    """Prints an `asr_qat.export.inspect.FileReport` as text."""
    totals = report.totals
    print(f"{report.path}: {report.file_bytes:,} bytes")
    if report.metadata is not None:
        vocabulary = report.metadata["vocabulary"]
        print(
            f"written by {report.metadata.get('producer', '?')}; "
            f"{report.metadata['sample_rate']} Hz, "
            f"{1000 * report.metadata['chunk_samples'] / report.metadata['sample_rate']:g} ms a "
            f"chunk, {len(vocabulary['pieces'])} labels ({vocabulary.get('kind', '?')})"
        )
    else:
        print("no asr_qat metadata: not written by `asr-qat export`")
    print(
        f"constants {totals.weight_bytes:,} bytes, {totals.parameters:,} parameters, "
        f"{totals.bits_per_parameter:.2f} bits each, scales included"
    )
    if report.encoder_weight_bytes is not None:
        print(f"encoder weights {report.encoder_weight_bytes:,} bytes")
    print()
    rows = [("part", "bytes", "parameters", "bits", "states", "XNNPACK", "bytes by type")]
    for part in report.parts:
        split = part.delegation
        rows.append(
            (
                part.name,
                f"{part.totals.weight_bytes:,}",
                f"{part.totals.parameters:,}",
                f"{part.totals.bits_per_parameter:.2f}",
                f"{part.state_bytes:,}",
                "?" if split is None else f"{split.delegated}/{split.operators}",
                ", ".join(f"{k} {v:,}" for k, v in part.totals.bytes_by_type.items()),
            )
        )
    print_table(rows)
    for part in report.parts:
        print(f"\n{part.name}: " + ", ".join(f"{k} {v}" for k, v in part.operators.items()))
        split = part.delegation
        if split is not None and split.left:
            left = ", ".join(f"{k} {v}" for k, v in split.left.items())
            print(f"  not delegated: {left}; {split.partitions} XNNPACK partition(s)")
    if tensors:
        print()
        rows = [("part", "type", "shape", "bytes", "scales", "buffer", "name")]
        for t in report.tensors:
            shape = "x".join(map(str, t.shape)) or "scalar"
            rows.append(
                (t.part, t.type, shape, f"{t.data_bytes:,}", str(t.scales), str(t.buffer), t.name)
            )
        print_table(rows)


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
