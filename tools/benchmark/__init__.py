"""`asr-qat benchmark`: speed, memory and size of exported files, side by side."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

HELP = "measure speed, memory, size and delegation of exported models"

EPILOG = """\
example:
  asr-qat benchmark float.tflite int8.tflite int4.tflite
  asr-qat benchmark int4.tflite --audio talk.flac --threads 1,2,4 --json"""


def thread_counts(value: str) -> list[int]:
    """Parses "1,2" into numbers of threads."""
    counts = [int(item) for item in value.split(",") if item.strip()]
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"expected numbers >= 1 like 1,2, received {value!r}")
    return counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Streams the same audio through every file in turn, several times over, and reports the "
        "time of a chunk, the real-time factor, peak memory (a process of its own for each "
        "file), the size, and the share of operators that XNNPACK runs."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("models", nargs="+", help=".tflite files written by `asr-qat export`")
    parser.add_argument("--audio", help="a recording (default: synthetic noise)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of noise, without --audio (default 10)"
    )
    parser.add_argument(
        "--threads", type=thread_counts, default=[1, 2], help="to measure (default 1,2)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="passes over the audio (default 7)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Measures and prints."""
    from tqdm import tqdm

    from asr_qat.runtime.model_file import load_recognizer_file

    from ..native_logs import without_native_notes
    from .host import benchmark_files

    paths = [Path(model) for model in args.models]
    rates = {load_recognizer_file(path).metadata["sample_rate"] for path in paths}
    samples = None
    if args.audio is not None:
        from asr_qat.data.audio import load_audio

        if len(rates) > 1:
            raise ValueError(f"the files expect different sample rates: {sorted(rates)} Hz")
        samples = load_audio(args.audio, rates.pop())
    total = len(paths) * len(args.threads) * (args.rounds + 1)
    with without_native_notes() as terminal:
        with tqdm(total=total, desc="measuring", unit="pass", file=terminal, disable=None) as bar:
            report = benchmark_files(
                paths, samples, args.seconds, args.threads, args.rounds, progress=bar.update
            )
    if args.json:
        document = dataclasses.asdict(report)
        for result in document["results"]:
            result["path"] = str(result["path"])
        json.dump(document, sys.stdout, ensure_ascii=False, indent=1)
        print()
    else:
        print_report(report)
    return 0


def print_report(report) -> None:
    """Prints a `HostReport` as a table."""
    from ..table import print_table

    first = report.results[0].speeds[0]
    print(f"{report.machine}; {report.audio_seconds:g} s of audio, median of {first.rounds} rounds")
    header = ("file", "MB", "encoder MB", "bits", "peak MB", "chunk ms", "threads", "p50 ms")
    rows: list[tuple[str, ...]] = [(*header, "p95 ms", "RTF", "encoder on XNNPACK")]
    for result in report.results:
        share = result.delegated.get("encoder")
        encoder = result.encoder_weight_bytes
        for speed in result.speeds:
            rows.append(
                (
                    result.path.name,
                    f"{result.file_bytes / 1e6:.2f}",
                    "?" if encoder is None else f"{encoder / 1e6:.2f}",
                    f"{result.bits_per_parameter:.2f}",
                    "?" if result.memory is None else f"{result.memory.peak_bytes / 1e6:.0f}",
                    f"{result.chunk_ms:g}",
                    str(speed.threads),
                    f"{speed.chunk_p50_ms:.3f}",
                    f"{speed.chunk_p95_ms:.3f}",
                    f"{speed.real_time_factor:.5f}",
                    "?" if share is None else f"{share:.0%}",
                )
            )
    print_table(rows)
