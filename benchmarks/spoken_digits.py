"""Spoken digits, real recordings: float, int8, int4 and post-training int4, from their files.

Trains on FSDD's four training speakers (strings of 1-7 digits by concatenation), on the digit
strings of speechocean762's training speakers and on synthetic digits; tests on strings of FSDD's
test speaker and on the 88 digit strings of speechocean762's test speakers. Every stage is kept in
the output folder and is not done again.

    python benchmarks/spoken_digits.py --data ../shared/data --out build/spoken_digits
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path

import keras

from asr_qat.data.audio import load_audio
from asr_qat.data.augment import WaveAugment
from asr_qat.data.digits import DIGIT_WORDS, concatenate_digits, is_digit_string
from asr_qat.data.manifest import Utterance, read_manifest
from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.export.exporter import export_model
from asr_qat.metrics.bootstrap import bootstrap_interval, paired_bootstrap
from asr_qat.metrics.wer import count_errors, sum_counts
from asr_qat.models.presets import preset
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.tools.digit_corpus import make_digit_corpus
from asr_qat.tools.post_training import quantize_after_training
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig, load_model, make_model, train_model

SEED = 0
AUGMENT = WaveAugment(speed_probability=0.8, speed_range=(0.8, 1.3))  # children speak high
BATCHES = BatchConfig(batch_size=16, bucket_seconds=(1.8, 3.0, 5.5), augment=AUGMENT)


def recordings(data: Path, out: Path, count: int) -> dict[str, list[Utterance]]:
    """Real recordings for training, development and test; ``count`` strings of FSDD to train on."""
    if not (out / "fsdd_test" / "manifest.jsonl").exists():
        for split, strings in (("train", count), ("dev", 200), ("test", 500)):
            singles = read_manifest(data / "fsdd" / f"{split}.jsonl")
            concatenate_digits(singles, out / f"fsdd_{split}", strings, seed=SEED)
    sets = {}
    for split in ("train", "dev", "test"):
        sets[f"fsdd_{split}"] = read_manifest(out / f"fsdd_{split}" / "manifest.jsonl")
        sets[f"speechocean_{split}"] = [
            u
            for u in read_manifest(data / "speechocean762" / f"{split}.jsonl")
            if is_digit_string(u.text)
        ]
    return sets


def prepare(data: Path, out: Path, args) -> dict[str, list[Utterance]]:
    """The recordings, and synthetic digits."""
    sets = recordings(data, out, args.fsdd)
    if not (out / "synthetic" / "train.jsonl").exists():
        make_digit_corpus(out / "synthetic", train=args.synthetic, dev=200, test=400, seed=SEED)
    for split in ("train", "dev", "test"):
        sets[f"synthetic_{split}"] = read_manifest(out / "synthetic" / f"{split}.jsonl")
    return sets


def copies(utterances: list[Utterance], count: int) -> list[Utterance]:
    """Each utterance several times in an epoch, each time augmented differently."""
    return [dataclasses.replace(u, id=f"{u.id}-{i}") for i in range(count) for u in utterances]


def train(out: Path, sets, name: str, precision: str, init: str | None, epochs: int, rate: float):
    """One training run, kept in ``out/name``."""
    model_file = out / name / "model.keras"
    if model_file.exists():
        return
    keras.utils.set_random_seed(SEED)
    utterances = (
        sets["fsdd_train"] + sets["synthetic_train"] + copies(sets["speechocean_train"], 20)
    )
    tokenizer = CharacterTokenizer.from_texts(DIGIT_WORDS + ("zero one",))
    model = make_model(preset("digits"), tokenizer, precision, init)
    train_model(
        model,
        utterances,
        tokenizer,
        out / name,
        training=TrainingConfig(epochs=epochs, learning_rate=rate, seed=SEED),
        batches=BATCHES,
        valid=sets["fsdd_dev"] + sets["synthetic_dev"] + sets["speechocean_dev"],
        verbose=2,
    )


def evaluate(path: Path, utterances: list[Utterance]):
    """Errors of a file on a test set, utterance by utterance."""
    recognizer = Recognizer(path)
    texts = [recognizer.transcribe(load_audio(u.audio_filepath)) for u in utterances]
    return count_errors([u.text for u in utterances], texts), texts


def main():
    """Runs all stages and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("ASR_QAT_SHARED_DATA", "../shared/data"))
    parser.add_argument("--out", default="build/spoken_digits")
    parser.add_argument("--fsdd", type=int, default=2500, help="training strings made of FSDD")
    parser.add_argument("--synthetic", type=int, default=4000, help="synthetic training strings")
    parser.add_argument("--epochs", type=int, default=9, help="float epochs")
    parser.add_argument("--qat-epochs", type=int, default=2, help="epochs of each quantized run")
    args = parser.parse_args()
    data, out = Path(args.data), Path(args.out)
    sets = prepare(data, out, args)
    float_model = str(out / "float" / "model.keras")
    train(out, sets, "float", "float32", None, args.epochs, 2e-3)
    train(out, sets, "int4", "dynamic_wi4_afp32", float_model, args.qat_epochs, 7e-4)
    train(out, sets, "int8", "dynamic_wi8_afp32", float_model, args.qat_epochs, 7e-4)
    tests = ("fsdd_test", "speechocean_test", "synthetic_test")
    waves = {t: [load_audio(u.audio_filepath) for u in sets[t]] for t in tests}
    report: dict = {"sizes": {}, "sets": {t: len(sets[t]) for t in sets}}
    for name in ("float", "int8", "int4"):
        record = json.loads((out / name / "run.json").read_text())
        proof = export_model(
            load_model(out / name / "model.keras"),
            out / f"{name}.tflite",
            waves=[wave for t in tests for wave in waves[t]],
            training=record,
        )
        report[name] = {"parity": proof.to_dict(), "training": record}
    quantize_after_training(out / "float.tflite", out / "ptq_int4.tflite")
    counts: dict = {}
    for test in tests:
        for name in ("float", "int8", "int4", "ptq_int4"):
            path = out / f"{name}.tflite"
            counts[name], texts = evaluate(path, sets[test])
            total, interval = sum_counts(counts[name]), bootstrap_interval(counts[name])
            report.setdefault(name, {})[test] = {
                **dataclasses.asdict(total),
                "wer": total.wer,
                "interval": [interval.low, interval.high],
                "bytes": path.stat().st_size,
                "texts": texts,
            }
            print(
                f"{test:17s} {name:9s} WER {100 * total.wer:6.2f} % "
                f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]  S {total.substitutions} "
                f"D {total.deletions} I {total.insertions} of {total.words} words"
            )
        for name in ("int8", "int4", "ptq_int4"):
            paired = paired_bootstrap(counts[name], counts["float"])
            report[name][test]["minus_float"] = dataclasses.asdict(paired)
            print(f"{test:17s} {name} - float: {paired}")
    partial = out / "report.json.partial"
    partial.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(partial, out / "report.json")


if __name__ == "__main__":
    main()
