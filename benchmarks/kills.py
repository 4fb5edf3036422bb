"""Kills a training run with SIGKILL again and again, and compares its end with that of another.

    python benchmarks/kills.py --kills 20 --json build/kills.json

Both runs train the smallest Conformer transducer with four bits, on noise, with dropout,
SpecAugment, changed waveforms, a moving average of the weights, a validation and a WER sample. One
is left alone. The other is killed at random moments, and begun again with the same command. After
every kill all its checkpoints are read.
"""

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from asr_qat.tools.table import print_table
from asr_qat.training.survival_testing import SurvivalConfig, result, run, run_with_kills


def measure(folder, config, kills, seed):
    """The document that ``--json`` writes."""
    began = time.perf_counter()
    run(folder / "whole", config)
    whole_s = time.perf_counter() - began
    found = run_with_kills(folder / "killed", config, kills, seed)
    whole, killed = result(folder / "whole"), result(folder / "killed")
    return {
        "config": dataclasses.asdict(config),
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "seed": seed,
        "kills": [dataclasses.asdict(kill) for kill in found],
        "unreadable": sum(kill.unreadable for kill in found),
        "half_written": sum(kill.half_written for kill in found),
        "weights_equal": whole["weights"] == killed["weights"],
        "history_equal": whole["history"] == killed["history"],
        "digest": killed["weights"],
        "whole_s": round(whole_s, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="(20)")
    parser.add_argument("--epochs", type=int, default=10, help="of 12 steps (10)")
    parser.add_argument("--recipe", default="dynamic_wi4_afp32", help="(dynamic_wi4_afp32)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes all that was found")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        config = SurvivalConfig(
            epochs=args.epochs, recipe=args.recipe, compile_cache=str(folder / "compiled")
        )
        found = measure(folder, config, args.kills, args.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    names = ("after_s", "steps", "checkpoint", "unreadable", "half_written")
    headings = ("kill", "after s", "steps done", "newest checkpoint", "unreadable", "half-written")
    rows = [(str(i), *(str(k[n]) for n in names)) for i, k in enumerate(found["kills"], start=1)]
    print_table([headings, *rows])
    equal = {True: "bit-identical", False: "DIFFERENT"}
    print(
        f"{len(rows)} kills, {found['unreadable']} unreadable checkpoints, "
        f"{found['half_written']} kills amid a write; weights {equal[found['weights_equal']]}, "
        f"history {equal[found['history_equal']]} ({found['seconds']:.0f} s)"
    )
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        partial = args.json.with_name(args.json.name + ".partial")
        partial.write_text(json.dumps(found, indent=1) + "\n")
        os.replace(partial, args.json)
    return 0 if found["weights_equal"] and found["history_equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
