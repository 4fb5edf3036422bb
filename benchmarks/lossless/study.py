"""Is four bits lossless? Trains, exports and evaluates the grid, and writes the report.

    python benchmarks/lossless/study.py --data ../shared/data --out build/lossless
    python benchmarks/lossless/study.py --seeds 1 --runs int4,int8    # a part of it
    KERAS_BACKEND=jax python benchmarks/lossless/study.py --phases train    # where a GPU is
    python benchmarks/lossless/study.py --phases evaluate    # where OUT was copied to
    python benchmarks/lossless/study.py --phases none        # the report of what is there

For each seed a float model is trained; every run of `grid.py` goes on from it for the same
steps, float among them. Each file that is exported hears all test sets; its transcripts are kept in
OUT/seed<S>/<run>/<file>.json, and the report is made from these. What is done is not done
again, and a training run that was interrupted goes on: several processes may work on seeds or
runs of their own at once, on a core each (taskset).
"""

import argparse
import multiprocessing
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from grid import RUNS, Run, run_named
from report import write_report
from sentences import sentences
from training import train_base, train_run

from asr_qat.training.compile_cache import default_folder, use_compile_cache

PHASES = ("train", "evaluate")


def one_run(phase: str, run: Run, seed: int, data: Path, out: Path) -> None:
    """What a process of its own does: compiled steps stay in memory, gigabytes for each model."""
    use_compile_cache(default_folder())
    task, folder = sentences(data, out), out / f"seed{seed}"
    if phase == "train":
        base = train_base(task, folder, seed)
        train_run(run, task, base, folder / run.name, seed)
    elif (folder / run.name / "model.keras").exists():
        from evaluation import evaluate_run  # needs TensorFlow and LiteRT

        evaluate_run(task, run, seed, folder)


def in_a_process(*run) -> None:
    """`one_run` in a new process.

    Raises:
        SystemExit: if it fails.
    """
    process = multiprocessing.get_context("spawn").Process(target=one_run, args=run)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def main() -> None:
    """Runs what is asked for and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("ASR_QAT_SHARED_DATA", "../shared/data"))
    parser.add_argument("--out", default="build/lossless")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--runs", help="of the grid, by name (all of them)")
    parser.add_argument("--phases", default=",".join(PHASES), help="train, evaluate, or none")
    args = parser.parse_args()
    runs = RUNS if args.runs is None else [run_named(name) for name in args.runs.split(",")]
    phases = [] if args.phases == "none" else args.phases.split(",")
    if not set(phases) <= set(PHASES):
        parser.error(f"--phases: received {args.phases}, expected some of {', '.join(PHASES)}")
    seeds = [int(seed) for seed in args.seeds.split(",")]
    data, out = Path(args.data), Path(args.out)
    for run, seed in [(run, seed) for run in runs for seed in seeds if seed in run.seeds]:
        print(f"{run.name}, seed {seed}: {run.why}", file=sys.stderr, flush=True)
        for phase in phases:
            in_a_process(phase, run, seed, data, out)
    if phases != ["train"]:
        write_report(sentences(data, out), out)


if __name__ == "__main__":
    main()
