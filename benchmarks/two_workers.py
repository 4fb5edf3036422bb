"""The losses of one process and of several with the same batches, side by side.

    python benchmarks/two_workers.py --backend jax --json build/two_workers.json

Processes are on this machine and speak through its loopback. With `--kill-after 6` the run of
several is killed after so many steps, and then goes on from its last checkpoint.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from asr_qat.training.checkpoint_files import FOLDER, newest_good
from asr_qat.training.run import load_model
from asr_qat.training.worker_testing import WorkerRun, run


def compare(folder: Path, args: argparse.Namespace) -> dict:
    """Runs both; JSON-ready."""
    config = WorkerRun(epochs=args.epochs, recipe=args.recipe, checkpoint_steps=3, valid=True)
    corpus, outs = folder / "corpus", {n: folder / str(n) for n in (1, args.processes)}
    one = checked(run(outs[1], corpus, config, args.backend))
    before, step = [], 0
    if args.kill_after:
        killed = dataclasses.replace(config, kill_after=args.kill_after)
        everyone = range(args.processes)
        killed = dataclasses.replace(killed, killed=tuple(everyone))
        begun = run(outs[args.processes], corpus, killed, args.backend, args.processes)
        checkpoint = newest_good(outs[args.processes] / FOLDER)
        step = 0 if checkpoint is None else checkpoint.metadata["step"]
        before = begun[0].losses[:step]
    several = checked(
        run(outs[args.processes], corpus, config, args.backend, args.processes, timeout=600)
    )
    losses = [*before, *several[0].losses]
    ends = [load_model(out / "model.keras").weights for out in outs.values()]
    values = [[keras.ops.convert_to_numpy(w) for w in end] for end in ends]
    history = [json.loads((out / "run.json").read_text())["history"] for out in outs.values()]
    return {
        "backend": args.backend,
        "processes": args.processes,
        "went on from step": step,
        "losses": {"1": one[0].losses, str(args.processes): losses},
        "greatest relative difference of losses": max(
            abs(b / a - 1) for a, b in zip(one[0].losses, losses, strict=True)
        ),
        "greatest difference of weights": max(
            float(np.abs(a - b).max(initial=0.0)) for a, b in zip(*values, strict=True)
        ),
        "equal weights in all processes": len({each.weights for each in several}) == 1,
        "val_loss": [each["val_loss"] for each in history],
        "step_ms": [each["step_ms"][-1] for each in history],
        "seconds": [one[0].seconds, several[0].seconds],
    }


def checked(outcomes):
    """The outcomes; ends the program if one is a failure."""
    for process, each in enumerate(outcomes):
        if each.code:
            sys.exit(f"process {process} ended with exit code {each.code}:\n{each.errors}")
    return outcomes


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=["tensorflow", "jax"], default="tensorflow")
    parser.add_argument("--processes", type=int, default=2, help="(2)")
    parser.add_argument("--epochs", type=int, default=2, help="of 4 steps (2)")
    parser.add_argument("--recipe", default="float32", help="(float32)")
    parser.add_argument("--kill-after", type=int, default=0, metavar="STEPS", help="0: never (0)")
    parser.add_argument("--json", type=Path, help="file for all of it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), args)
    print(f"step  1 process  {args.processes} processes")
    for step, (a, b) in enumerate(zip(*found["losses"].values(), strict=True), start=1):
        print(f"{step:4}  {a:9.6f}  {b:9.6f}")
    for name, value in found.items():
        if name != "losses":
            print(f"{name}: {value}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
