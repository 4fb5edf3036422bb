"""Damages model files in thousands of ways and gives them to the runtime and to `inspect`.

No mutant of an exported file may crash or hang a reader, or pass for the file that it was; one
whose metadata is gone may at most be described as unverified. A .tflite file of others has no
digest: there, a reader may describe what it finds, but not crash or hang. Exit code 1 otherwise.

    python benchmarks/mutated_files.py --mutants 10000 --foreign 1000
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from asr_qat.export.inspection.mutation import KINDS
from asr_qat.export.inspection.mutation_trial import (
    FAILURES,
    OUTCOMES,
    UNCHANGED,
    Result,
    Source,
    run_trial,
)
from asr_qat.export.testing import tiny_float_model, write_tiny_recognizer
from asr_qat.tools.table import print_table


def sources_of(args: argparse.Namespace) -> list[Source]:
    """The files to damage: one of ours and one of others."""
    if args.model is None:
        with tempfile.TemporaryDirectory() as folder:
            ours = write_tiny_recognizer(Path(folder) / "tiny.tflite").read_bytes()
    else:
        ours = Path(args.model).read_bytes()
    foreign = (
        tiny_float_model()[0]
        if args.foreign_model is None
        else Path(args.foreign_model).read_bytes()
    )
    return [Source("exported", ours, args.mutants), Source("foreign", foreign, args.foreign)]


def table_of(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Rows: source and kind of damage; columns: what became of the mutants."""
    counts = Counter((r.source, r.kind, r.outcome) for r in results)
    rows = [("file", "damage", "mutants", *OUTCOMES, UNCHANGED, "longest, s")]

    def add(source: str, kinds: Sequence[str], name: str) -> None:
        found = [sum(counts[source, kind, o] for kind in kinds) for o in (*OUTCOMES, UNCHANGED)]
        longest = max(r.seconds for r in results if r.source == source and r.kind in kinds)
        changed = sum(found[:-1])
        rows.append((source, name, *(f"{n:,}" for n in (changed, *found)), f"{longest:.2f}"))

    for source in dict.fromkeys(r.source for r in results):
        kinds = [k for k in KINDS if any(r.kind == k and r.source == source for r in results)]
        for kind in kinds:
            add(source, [kind], kind)
        add(source, kinds, "all")
    return rows


def contained(results: Sequence[Result]) -> Counter[str]:
    """What happened inside the separate processes, by the reason that was reported."""
    notes = Counter[str]()
    for result in results:
        for cause in ("the process crashed", "takes too long", "too much memory"):
            if cause in result.note:
                notes[cause] += 1
    return notes


def main() -> int:
    """Runs the mutants and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=10_000, help="of the exported file")
    parser.add_argument("--foreign", type=int, default=1000, help="mutants of others' file")
    parser.add_argument("--model", help="an exported file; default: a tiny one")
    parser.add_argument("--foreign-model", help="a .tflite file of others; default: a tiny one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--timeout", type=float, default=120, help="seconds before it is a hang")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    sources, start = sources_of(args), time.perf_counter()
    with tqdm(total=sum(s.mutants for s in sources), unit="file") as bar:
        results = run_trial(
            sources, args.seed, args.workers, args.timeout, lambda result: bar.update()
        )
    seconds = time.perf_counter() - start
    rows, failures = table_of(results), [r for r in results if r.outcome in FAILURES]
    print_table(rows)
    reasons = contained(results)
    print(f"\n{len(results):,} mutants in {seconds:.0f} s, seed {args.seed}")
    for cause, count in reasons.items():
        print(f"contained in a process of its own: {cause}: {count}")
    for result in failures[:20]:
        print(f"{result.source} {result.index} ({result.kind}): {result.outcome}: {result.note}")
    if args.json:
        document = {
            "seed": args.seed,
            "seconds": seconds,
            "table": [dict(zip(rows[0], row, strict=True)) for row in rows[1:]],
            "contained": dict(reasons),
            "failures": [dataclasses.asdict(result) for result in failures],
        }
        partial = Path(f"{args.json}.partial")
        partial.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(partial, args.json)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
