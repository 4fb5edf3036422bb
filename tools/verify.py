"""`asr-qat verify`: does the file compute what the Keras model computes?"""

import argparse
import json
import sys
from functools import partial

HELP = "prove that a .tflite file computes what the model computes"

EPILOG = """\
example:
  asr-qat verify int4.tflite --model runs/int4/model.keras
  asr-qat verify int4.tflite --model runs/int4/model.keras --audio test.jsonl --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Compares, for every layer of the encoder and on inputs that it really gets: weight codes, "
        "activation codes, int32 accumulators, outputs; on XNNPACK, on TFLite's built-in and on "
        "its reference kernels. Then the encoder as a whole, and with --audio the transcript of "
        "every utterance. Exit code 0 if all that is owed is equal."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", help="a .tflite file written by `asr-qat export`")
    parser.add_argument("--model", required=True, help="the model.keras that it was made from")
    parser.add_argument("--audio", help="manifest whose transcripts are compared")


def run(args: argparse.Namespace) -> int:
    """Verifies, and prints what was found."""
    from .tensorflow_quiet import quiet_tensorflow

    quiet_tensorflow()
    from tqdm import tqdm

    from asr_qat.data.audio import load_audio
    from asr_qat.data.manifest import read_manifest
    from asr_qat.export.build import float16_served
    from asr_qat.export.lowering import weighted_layers
    from asr_qat.export.verify import verify
    from asr_qat.quantization.spec import policy
    from asr_qat.runtime.model_file import load_recognizer_file
    from asr_qat.training.run import load_model

    from .native_logs import without_native_notes

    file = load_recognizer_file(args.file)
    model = load_model(args.model)
    rules = file.metadata["recipe"]["rules"]
    if rules != model.policy.to_list():
        model = model.with_precision(policy(rules))
    utterances = read_manifest(args.audio) if args.audio else []
    float16 = file.metadata["recipe"].get("float_storage") == "float16"
    served = float16_served(model, weighted_layers(model), float16)
    with without_native_notes() as terminal, served:
        report = verify(
            model,
            args.file,
            [load_audio(u.audio_filepath) for u in utterances],
            [u.id for u in utterances],
            progress=partial(tqdm, file=terminal, disable=None),
        )
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        print_report(report)
    return 0 if report.passed else 1


def print_report(report, layers: bool = True) -> None:
    """Prints a `ParityReport`: a line for each layer on the serving engine, then each engine."""
    from .table import print_table

    if layers and report.served:
        print_table(layer_rows(report.served))
        print()
    header = (
        "engine",
        "layers bit-equal",
        "largest encoder difference",
        "activation codes flipped",
        "transcripts equal",
    )
    rows: list[tuple[str, ...]] = [header]
    for encoder in report.encoders:
        on = report.layers_on(encoder.target)
        heard = [t for t in report.transcripts if t.target == encoder.target and t.total]
        rows.append(
            (
                encoder.target,
                f"{sum(layer.bit_equal for layer in on)} of {len(on)}",
                f"{encoder.max_difference:.1e} of {encoder.max_output:.1f}",
                f"{encoder.codes_flipped:,} of {encoder.codes_total:,}",
                ", ".join(f"{t.equal} of {t.total} ({_search(t, heard)})" for t in heard)
                or "not asked",
            )
        )
    print_table(rows)
    print(
        f"The file is for {report.encoder.target}; the other engines quantize rows in their own "
        "way (docs/numerics.md)."
    )
    for difference in report.differences:
        print(f"  {difference.name}: Keras {difference.keras!r}, file {difference.file!r}")
    print("PASS" if report.passed else "FAIL")


def _search(transcript, others) -> str:
    """How it was searched, and the pass where there are several."""
    several = len({other.recognition for other in others}) > 1
    return f"{transcript.recognition}, {transcript.search}" if several else transcript.search


def layer_rows(layers) -> list[tuple[str, ...]]:
    """The table of the layers on one engine."""
    header = ("layer", "recipe", "weights", "rows", "accumulators", "outputs", "Keras ulp", "")
    rows: list[tuple[str, ...]] = [header]
    for layer in layers:
        counts = (
            layer.codes_differ + layer.scales_differ,
            layer.row_codes_differ,
            layer.accumulators_differ,
            layer.outputs_differ + layer.output_codes_differ,
        )
        rows.append(
            (
                layer.path,
                layer.recipe,
                *("equal" if n == 0 else f"{n} differ" for n in counts),
                f"{layer.keras_ulps:.1f}",
                "bit-equal" if layer.bit_equal else "DIFFERENT",
            )
        )
    return rows


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
