"""`asr-qat export`: a trained Keras model in, a verified .tflite file out."""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

HELP = "write a verified .tflite file from a trained model"

EPILOG = """\
example:
  asr-qat export runs/int4/model.keras --out int4.tflite
  asr-qat export runs/int4/model.keras --out int4.tflite --audio test.jsonl --float16
  asr-qat export runs/int4/model.keras --out int4.tflite --chunk-ms 320,80,1280 --utterance
  asr-qat export runs/float/model.keras --out float.tflite
  asr-qat export runs/dynamic/model.keras --out small.tflite --pass small
signatures: frontend, encoder, prediction, joint, recognize_chunk (all of them, with greedy search
inside the graph); further chunk sizes have theirs, such as encoder_80ms; encode_utterance; a
model with several passes has an encoder_<stage> for each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Converts the model (builtin operators only), puts its trained integers into the file, "
        "and proves that the file multiplies them: layer by layer on XNNPACK, on the built-in and "
        "on the reference kernels. A file that fails the proof is not written."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", help="model.keras written by `asr-qat train`")
    parser.add_argument("--out", required=True, help="the .tflite file")
    parser.add_argument(
        "--chunk-ms",
        type=chunk_sizes,
        metavar="MS[,MS…]",
        help="audio of one call (320, or the next whole number of the model's frames); several "
        "sizes share all weights, the first is the default",
    )
    parser.add_argument(
        "--pass",
        dest="part",
        metavar="NAME",
        help="only what this pass needs: a sub-model, such as small of the preset dynamic",
    )
    parser.add_argument(
        "--utterance", action="store_true", help="add the encoder of a whole utterance"
    )
    parser.add_argument(
        "--float16", action="store_true", help="store as float16 what stays float: half its bytes"
    )
    parser.add_argument(
        "--recipe", help="another precision than the model was trained at: a name, or a recipe file"
    )
    parser.add_argument(
        "--rule", action="append", default=[], metavar="PATTERN=RECIPE", help="on top of it"
    )
    parser.add_argument("--audio", help="manifest to run the proof on, transcripts included")


def chunk_sizes(text: str) -> list[int]:
    """``"320,80"`` -> ``[320, 80]``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"received {text!r}, expected milliseconds such as 320 or 320,80"
        ) from None


def run(args: argparse.Namespace) -> int:
    """Exports, and prints what was proved."""
    from .tensorflow_quiet import quiet_tensorflow

    quiet_tensorflow()
    from tqdm import tqdm

    from asr_qat.data.audio import load_audio
    from asr_qat.data.manifest import read_manifest
    from asr_qat.export.exporter import export_model
    from asr_qat.quantization.recipe_file import recipe_or_file
    from asr_qat.quantization.spec import parse_rule
    from asr_qat.training.run import load_model

    from .native_logs import without_native_notes
    from .verify import print_report

    started = time.perf_counter()
    model = load_model(args.model)
    if args.recipe or args.rule:
        rules = recipe_or_file(args.recipe) if args.recipe else model.policy
        model = model.with_precision(rules.with_rules([parse_rule(rule) for rule in args.rule]))
    if args.part:
        model = model.submodel(args.part)
    record = Path(args.model).with_name("run.json")
    training = json.loads(record.read_text()) if record.exists() else {}
    waves = [load_audio(u.audio_filepath) for u in read_manifest(args.audio)] if args.audio else []
    with without_native_notes() as terminal:
        report = export_model(
            model,
            args.out,
            chunk_ms=args.chunk_ms,
            utterance=args.utterance,
            float16=args.float16,
            waves=waves,
            training=training,
            progress=partial(tqdm, file=terminal, disable=None),
        )
    size = Path(args.out).stat().st_size
    if args.json:
        document = {"path": args.out, "bytes": size, "parity": report.to_dict()}
        print(json.dumps(document))
        return 0
    print_report(report, layers=False)
    print(f"{args.out}: {size:,} bytes, in {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
