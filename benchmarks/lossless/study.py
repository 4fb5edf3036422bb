"""Is four bits lossless? Trains, exports and evaluates the grid, and writes the report.

    python benchmarks/lossless/study.py --data ../shared/data --out build/lossless
    python benchmarks/lossless/study.py --tasks digits --seeds 1 --runs int4,int8    # a part of it
    python benchmarks/lossless/study.py --runs none                # the report of what is there

For each task and seed a float model is trained; every run of `grid.py` goes on from it for the same
steps, float among them. Each file that is exported hears all test sets; its transcripts are kept in
OUT/<task>/seed<S>/<run>/<file>.json, and the report is made from these. What is done is not done
again, and a training run that was interrupted goes on: several processes may work on tasks, seeds
or runs of their own at once, on a core each (taskset).
"""

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from digits import digits
from grid import BASELINES, RUNS, Run, run_named
from report import write_report
from sentences import sentences
from task import Task
from training import train_base, train_run

from asr_qat.data.audio import load_audio
from asr_qat.export.exporter import export_model
from asr_qat.quantization.spec import policy
from asr_qat.tools.heard import hear
from asr_qat.tools.post_training import quantize_after_training
from asr_qat.training.compile_cache import default_folder, use_compile_cache
from asr_qat.training.run import load_model

TASKS = {"sentences": sentences, "digits": digits}
PROVEN = 50  # utterances of each test set that the exporter proves a file with
CALIBRATION = 100  # training utterances that post-training quantization may see


def write_json(path: Path, document: Any) -> None:
    """Under a temporary name first."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(partial, path)


class Study:
    """A task, and where its results are kept."""

    def __init__(self, task: Task, out: Path):
        self.task, self.out = task, out

    def run(self, run: Run, seed: int) -> None:
        """Trains, exports, evaluates."""
        folder = self.out / f"seed{seed}"
        base = train_base(self.task, folder, seed)
        model = train_run(run, self.task, base, folder / run.name, seed)
        trained = json.loads((folder / run.name / "run.json").read_text())
        for precision in (run.precision, *run.also):
            name = "model" if precision == run.precision else str(precision)
            path = folder / run.name / f"{name}.tflite"
            known = {"model": run.name, "recipe": recipe_name(precision), "method": run.method}
            if not path.exists():
                self._export(model, precision, path, trained, run.method)
            self.evaluate(path, {**known, "seed": seed})
        if run.name == "float":
            self._baselines(folder, seed)

    def _export(self, model, precision, path, trained, method):
        loaded = load_model(model)
        rules = policy(precision if isinstance(precision, str) else list(precision))
        if rules != loaded.policy:
            loaded = loaded.with_precision(rules)
        waves = [
            load_audio(u.audio_filepath)
            for t in self.task.tests
            for u in self.task.sets[t][:PROVEN]
        ]
        proof = export_model(loaded, path, waves=waves, training=trained)
        write_json(path.with_suffix(".parity.json"), {**proof.to_dict(), "method": method})
        print(
            f"{path}: {proof.layers_bit_equal} of {len(proof.served)} layers bit-equal, "
            f"{proof.transcripts_equal} of {proof.transcripts_total} transcripts equal",
            flush=True,
        )

    def _baselines(self, folder, seed):
        train = self.task.train
        heard = train[:: len(train) // CALIBRATION][:CALIBRATION]
        for algorithm, bits in BASELINES:
            path = folder / "float" / f"{algorithm}_{bits}.tflite"
            if not path.exists():
                waves = [load_audio(u.audio_filepath) for u in heard]
                quantize_after_training(
                    folder / "float" / "model.tflite", path, bits, algorithm, waves
                )
            known = {"model": "float", "recipe": f"dynamic_wi{bits}_afp32", "method": algorithm}
            self.evaluate(path, {**known, "seed": seed})

    def evaluate(self, path: Path, known: dict[str, Any]) -> None:
        """Transcribes the test sets with a file, unless that was done."""
        result = path.with_suffix(".json")
        if result.exists():
            return
        tests = {}
        for test in self.task.tests:
            (heard,) = hear(str(path), self.task.sets[test], threads=1)
            tests[test] = {
                "texts": list(heard.texts),
                "audio_seconds": sum(heard.audio_seconds),
                "processing_seconds": sum(heard.processing_seconds),
            }
        write_json(result, {**known, "bytes": path.stat().st_size, "tests": tests})


def one_run(task: str, run: Run, seed: int, data: Path, out: Path) -> None:
    """What a process of its own does: compiled steps stay in memory, gigabytes for each model."""
    use_compile_cache(default_folder())
    Study(TASKS[task](data, out / task), out / task).run(run, seed)


def _in_a_process(*run: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=one_run, args=run)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def recipe_name(precision: Any) -> str:
    """As the command line would have it."""
    if isinstance(precision, str):
        return precision
    return " ".join(f"{pattern}={recipe}" for pattern, recipe in precision)


def main() -> None:
    """Runs what is asked for and writes the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("ASR_QAT_SHARED_DATA", "../shared/data"))
    parser.add_argument("--out", default="build/lossless")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--runs", help="of the grid, by name (all of them)")
    args = parser.parse_args()
    names = [r.name for r in RUNS] if args.runs is None else args.runs.split(",")
    runs = [] if args.runs == "none" else [run_named(name) for name in names]
    seeds = [int(seed) for seed in args.seeds.split(",")]
    tasks = args.tasks.split(",")
    data, out = Path(args.data), Path(args.out)
    for task in tasks:
        for run in runs:
            for seed in seeds:
                if task in run.tasks and seed in run.seeds:
                    print(
                        f"{task}, {run.name}, seed {seed}: {run.why}", file=sys.stderr, flush=True
                    )
                    _in_a_process(task, run, seed, data, out)
    write_report([(TASKS[task](data, out / task), out / task) for task in tasks])


if __name__ == "__main__":
    main()
