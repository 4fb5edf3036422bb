"""Is a second pass better than the first? Is the embedding decoder as good as an LSTM?

Trains three recognisers of spoken digits in float, from the same recordings with the same seed:
one with the patent's embedding decoder, one with an LSTM in its place, one with cascaded encoders
whose second pass looks 880 ms ahead. Training and test sets are the study's real recordings of
digits (`digit_recordings.py`); error rates are those of the exported files. Every stage is
kept in the output folder and is not done again.

    python benchmarks/passes_and_decoders.py --data ../shared/data --out build/passes_and_decoders
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path

import keras
from digit_recordings import copies, recordings

from asr_qat.data.audio import load_audio
from asr_qat.data.augment import WaveAugment
from asr_qat.data.digits import DIGIT_WORDS
from asr_qat.data.tokenizer import CharacterTokenizer
from asr_qat.export.exporter import export_model
from asr_qat.metrics.bootstrap import bootstrap_interval, paired_bootstrap
from asr_qat.metrics.wer import count_errors, sum_counts
from asr_qat.models.configs import LookaheadStageConfig, RecurrentDecoderConfig, TransducerConfig
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.training.fit import TrainingConfig
from asr_qat.training.run import BatchConfig, load_model, train_model

TESTS = ("fsdd_test", "speechocean_test")
AUGMENT = WaveAugment(speed_probability=0.8, speed_range=(0.8, 1.3))  # children speak high
BATCHES = BatchConfig(batch_size=16, bucket_seconds=(1.8, 3.0, 5.5), augment=AUGMENT)


def configurations() -> dict[str, TransducerConfig]:
    """The recognisers by name."""
    digits = preset("digits")
    second = LookaheadStageConfig(name="second", blocks=2, kernel_size=9, dropout=0.05)
    return {
        "embedding": digits,
        "lstm": dataclasses.replace(
            digits, prediction=RecurrentDecoderConfig(embedding=128, units=256, projection=128)
        ),
        "cascaded": dataclasses.replace(
            digits, cascade=(second,), passes=("encoder", "second"), path_training="summed"
        ),
    }


def train(out: Path, sets, name: str, config: TransducerConfig, args) -> None:
    """One training run, kept in ``out/name``."""
    if (out / name / "model.keras").exists():
        return
    keras.utils.set_random_seed(args.seed)
    tokenizer = CharacterTokenizer.from_texts(DIGIT_WORDS + ("zero one",))
    train_model(
        Transducer(config, tokenizer.get_config()),
        sets["fsdd_train"] + copies(sets["speechocean_train"], 20),
        tokenizer,
        out / name,
        training=TrainingConfig(epochs=args.epochs, learning_rate=2e-3, seed=args.seed),
        batches=BATCHES,
        valid=sets["fsdd_dev"] + sets["speechocean_dev"],
        verbose=2,
    )


def evaluate(path: Path, utterances) -> dict[str, list]:
    """Errors by every pass of a file, utterance by utterance."""
    recognizer = Recognizer(path)
    texts = [recognizer.transcribe_all(load_audio(u.audio_filepath)) for u in utterances]
    references = [u.text for u in utterances]
    return {
        name: count_errors(references, [each[i] for each in texts])
        for i, name in enumerate(recognizer.passes)
    }


def main():
    """Runs all stages and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("ASR_QAT_SHARED_DATA", "../shared/data"))
    parser.add_argument("--out", default="build/passes_and_decoders")
    parser.add_argument("--fsdd", type=int, default=2500, help="training strings made of FSDD")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    out = Path(args.out)
    sets = recordings(Path(args.data), out, args.fsdd)
    report: dict = {"epochs": args.epochs, "seed": args.seed, "results": []}
    counts: dict = {}
    for name, config in configurations().items():
        train(out, sets, name, config, args)
        path = out / f"{name}.tflite"
        record = json.loads((out / name / "run.json").read_text())
        waves = [load_audio(u.audio_filepath) for u in sets["speechocean_test"]]
        proof = export_model(
            load_model(out / name / "model.keras"), path, waves=waves, training=record
        )
        print(
            f"{name}: {proof.layers_bit_equal} of {len(proof.served)} layers bit-equal, "
            f"{proof.transcripts_equal} of {proof.transcripts_total} transcripts equal"
        )
        for test in TESTS:
            for one, errors in evaluate(path, sets[test]).items():
                counts[name, one, test] = errors
                total, interval = sum_counts(errors), bootstrap_interval(errors)
                row = {"model": name, "pass": one, "test_set": test, "wer": total.wer}
                report["results"].append(
                    {**row, **dataclasses.asdict(total), "interval": [interval.low, interval.high]}
                )
                print(
                    f"{name:10s} {one:8s} {test:17s} WER {100 * total.wer:6.2f} % "
                    f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]  S "
                    f"{total.substitutions} D {total.deletions} I {total.insertions} of "
                    f"{total.words} words"
                )
    report["comparisons"] = []
    for test in (*TESTS, "all"):
        for one, other in (
            (("cascaded", "second"), ("cascaded", "encoder")),
            (("embedding", "encoder"), ("lstm", "encoder")),
        ):
            pair = [
                [e for t in TESTS if test in (t, "all") for e in counts[*each, t]]
                for each in (one, other)
            ]
            difference = paired_bootstrap(*pair)
            names = [" ".join(each) for each in (one, other)]
            report["comparisons"].append(
                {"test_set": test, "models": names, **dataclasses.asdict(difference)}
            )
            low, middle, high = (
                100 * v for v in (difference.low, difference.difference, difference.high)
            )
            print(f"{test:17s} {names[0]} - {names[1]}: {middle:+.2f} [{low:+.2f}, {high:+.2f}]")
    partial = out / "report.json.partial"
    partial.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(partial, out / "report.json")


if __name__ == "__main__":
    main()
