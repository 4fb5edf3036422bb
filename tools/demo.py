"""`asr-qat demo`: the whole path on speech that this machine makes itself."""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HELP = "make speech, train, export, verify, evaluate and benchmark, in a quarter of an hour"

EPILOG = """\
example:
  asr-qat demo --out build/demo
  asr-qat demo --out build/quick --train 300 --test 20 --float-epochs 1 --epochs 1

Stages whose results are in the folder are not done again: after an interruption, repeat the
command. The result is OUT/report.json and OUT/report.png; OUT/int4.tflite transcribes digits."""

BUCKETS = (1.5, 2.4, 5.0)  # seconds; few, because each is compiled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Synthesises connected digits in many voices (test voices are not heard in training), "
        "trains a small streaming Conformer transducer in float and then with 4-bit integers, "
        "exports both, proves the files, evaluates them on the whole test set, beside the float "
        "file quantized after training, and measures their speed."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", default="build/demo", help="folder for everything (build/demo)")
    parser.add_argument("--train", type=int, default=6000, help="training utterances (6000)")
    parser.add_argument("--test", type=int, default=300, help="test utterances (300)")
    parser.add_argument("--preset", default="digits", help="size of the model (digits)")
    parser.add_argument("--float-epochs", type=int, default=7, help="epochs in float (7)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs with 4-bit integers (2)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (0)")


class Stages:
    """Announces and times what is done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    def do(self, name: str, function: Callable[[], Any]) -> Any:
        """Runs one stage."""
        print(f"[{time.perf_counter() - self.started:4.0f} s] {name} …", file=sys.stderr)
        before = time.perf_counter()
        result = function()
        self.seconds[name] = round(time.perf_counter() - before, 1)
        return result


def run(args: argparse.Namespace) -> int:
    """Runs the stages and prints the table."""
    from asr_qat.training.compile_cache import default_folder, use_compile_cache

    from .tensorflow_quiet import quiet_tensorflow

    use_compile_cache(default_folder())
    quiet_tensorflow()
    from asr_qat.data.audio import load_audio
    from asr_qat.data.manifest import read_manifest

    from .benchmark.host import benchmark_files
    from .digit_corpus import make_digit_corpus
    from .evaluate import evaluate_files
    from .native_logs import without_native_notes
    from .post_training import quantize_after_training

    out = Path(args.out)
    corpus = out / "corpus"
    stages = Stages()
    if not (corpus / "test.jsonl").exists():
        stages.do(
            "synthesise speech",
            lambda: make_digit_corpus(
                corpus, train=args.train, dev=50, test=args.test, seed=args.seed
            ),
        )
    train = read_manifest(corpus / "train.jsonl")
    test = read_manifest(corpus / "test.jsonl")
    waves = [load_audio(u.audio_filepath) for u in test]
    recipes = {"float": "float32", "int4": "dynamic_wi4_afp32"}
    proofs = {}
    for name, recipe in recipes.items():
        init = None if name == "float" else str(out / "float" / "model.keras")
        epochs = args.float_epochs if name == "float" else args.epochs
        stages.do(f"train {name}", lambda: _train(args, train, out / name, recipe, init, epochs))  # noqa: B023
        with without_native_notes():
            proofs[name] = stages.do(
                f"export and verify {name}",
                lambda: _export(out / name / "model.keras", out / f"{name}.tflite", waves),  # noqa: B023
            )
    files = {name: out / f"{name}.tflite" for name in ("float", "int4", "ptq_int4")}
    with without_native_notes():
        stages.do(
            "quantize after training, for comparison",
            lambda: quantize_after_training(files["float"], files["ptq_int4"]),
        )
    errors = stages.do("evaluate the files", lambda: evaluate_files(files.values(), test))
    with without_native_notes():
        speeds = stages.do(
            "benchmark the files",
            lambda: benchmark_files(list(files.values()), _long_audio(waves), rounds=9),
        )
    report = _report(files, proofs, errors, speeds, stages)
    _write(out / "report.json", json.dumps(report, indent=1) + "\n")
    from .demo_picture import draw

    draw(report, out / "report.png")
    if args.json:
        print(json.dumps(report))
    else:
        _print(report, out)
    return 0


def _train(args, utterances, folder, recipe, init, epochs):
    if (folder / "model.keras").exists():
        return
    import keras

    from asr_qat.data.augment import WaveAugment
    from asr_qat.data.digits import DIGIT_WORDS
    from asr_qat.data.tokenizer import CharacterTokenizer
    from asr_qat.models.presets import preset
    from asr_qat.training.fit import TrainingConfig
    from asr_qat.training.run import BatchConfig, make_model, train_model

    from .precision import print_precision

    keras.utils.set_random_seed(args.seed)
    # The corpus has voices, noise and levels already.
    augment = WaveAugment(reverb_probability=0, band_limit_probability=0, noise_probability=0.3)
    tokenizer = CharacterTokenizer.from_texts([" ".join(DIGIT_WORDS)])
    model = make_model(preset(args.preset), tokenizer, recipe, init)
    print_precision(model, sys.stderr)
    rate = 2e-3 if init is None else 7e-4
    train_model(
        model,
        utterances,
        tokenizer,
        folder,
        training=TrainingConfig(epochs=epochs, learning_rate=rate, seed=args.seed),
        batches=BatchConfig(batch_size=16, bucket_seconds=BUCKETS, augment=augment),
        verbose=1 if sys.stderr.isatty() and not args.json else 0 if args.json else 2,
    )


def _export(model_file, path, waves):
    from asr_qat.export.exporter import export_model
    from asr_qat.training.run import load_model

    record = json.loads(model_file.with_name("run.json").read_text())
    return export_model(load_model(model_file), path, waves=waves, training=record)


def _long_audio(waves, seconds=30, rate=16000):
    """Utterances in a row, for timing."""
    import numpy as np

    return np.concatenate(waves)[: seconds * rate]


def _report(files, proofs, errors, speeds, stages) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for name, path, error, result in zip(
        files, files.values(), errors, speeds.results, strict=True
    ):
        one_thread = result.speeds[0]
        report[name] = {
            "wer": error["wer"],
            "wer_interval": error["interval"],
            **{k: error[k] for k in ("substitutions", "deletions", "insertions", "words")},
            "minus_float": error["minus_first"],
            "bytes": path.stat().st_size,
            "rtf": one_thread.real_time_factor,
            "chunk_p50_ms": one_thread.chunk_p50_ms,
            "peak_memory_bytes": result.memory.peak_bytes if result.memory else None,
            "encoder_delegated": result.delegated["encoder"],
        }
    report["encoder_bytes"] = {
        name: result.encoder_weight_bytes
        for name, result in zip(files, speeds.results, strict=True)
    }
    proof = proofs["int4"].to_dict()
    report["parity"] = {
        **{k: proof[k] for k in ("layers_bit_equal", "layers_total")},
        "transcripts_equal": proof["transcripts_equal"],
        "transcripts_total": proof["transcripts_total"],
        "float_transcripts_equal": proofs["float"].transcripts_equal,
        "encoder": proof["encoder"],
        "differences": proof["differences"],
    }
    report["machine"] = speeds.machine
    report["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    report["export_and_verify_seconds"] = stages.seconds["export and verify int4"]
    report["stage_seconds"] = stages.seconds
    report["seconds"] = round(time.perf_counter() - stages.started, 1)
    return report


def _write(path: Path, content: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(content)
    os.replace(partial, path)


def _print(report, out):
    from .table import print_table

    rows: list[tuple[str, ...]] = [
        ("file", "WER %", "95 % interval", "S", "D", "I", "MB", "encoder MB", "RTF", "MB RAM")
    ]
    for name in ("float", "int4", "ptq_int4"):
        r = report[name]
        rows.append(
            (
                f"{name}.tflite",
                f"{100 * r['wer']:.2f}",
                "{:.2f} – {:.2f}".format(*(100 * v for v in r["wer_interval"])),
                *(str(r[k]) for k in ("substitutions", "deletions", "insertions")),
                f"{r['bytes'] / 1e6:.2f}",
                f"{report['encoder_bytes'][name] / 1e6:.2f}",
                f"{r['rtf']:.4f}",
                f"{(r['peak_memory_bytes'] or 0) / 1e6:.0f}",
            )
        )
    print_table(rows)
    parity, sizes = report["parity"], report["encoder_bytes"]
    print(
        f"encoder: int4 is {sizes['int4'] / sizes['float']:.4f} of the float bytes\n"
        f"parity: {parity['layers_bit_equal']} of {parity['layers_total']} layers bit-equal, "
        f"{parity['transcripts_equal']} of {parity['transcripts_total']} transcripts equal to the "
        "Keras model's\n"
        f"export and verify of int4: {report['export_and_verify_seconds']:.0f} s; peak memory of "
        f"the whole demo, training included: {report['peak_memory_bytes'] / 2**30:.1f} GiB\n"
        f"{out / 'report.json'}, {out / 'report.png'}: {report['seconds']:.0f} s in all, on "
        f"{report['machine']}"
    )


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
