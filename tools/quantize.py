"""`asr-qat quantize`: a float file quantized after training, to compare with."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

HELP = "quantize a float file after training, with AI Edge Quantizer, to compare with"

EPILOG = """\
example:
  asr-qat quantize float.tflite --out octav.tflite --bits 4 --algorithm octav
  asr-qat quantize float.tflite --out gptq.tflite --bits 4 --algorithm gptq --audio train.jsonl
  asr-qat quantize float.tflite --out static.tflite --bits 8 --static --audio train.jsonl
  asr-qat evaluate float.tflite octav.tflite gptq.tflite int4.tflite --manifest test.jsonl

gptq, oscar and --static are fitted to recordings: use some of the training set, not of the test
set. docs/mixed_precision.md says what each algorithm is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        "Quantizes the encoder's weights of an exported float file, without training: the baseline "
        "for a model that was trained with integers. The layers are those that our recipes "
        "quantize, and the file runs wherever ours do; it has no proof."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", help="float .tflite file written by `asr-qat export`")
    parser.add_argument("--out", required=True, help="the quantized .tflite file")
    parser.add_argument("--bits", type=int, default=4, help="of the weights: 2, 4 or 8 (4)")
    parser.add_argument(
        "--algorithm", default="minmax", help="minmax, mse, octav, gptq or oscar (minmax)"
    )
    parser.add_argument(
        "--static", action="store_true", help="int8 activations with fixed ranges, not row by row"
    )
    parser.add_argument("--audio", help="manifest of recordings for gptq, oscar and --static")
    parser.add_argument(
        "--utterances", type=int, default=50, metavar="N", help="of --audio, evenly spread (50)"
    )


def run(args: argparse.Namespace) -> int:
    """Quantizes, and prints what the file holds."""
    from asr_qat.data.audio import load_audio
    from asr_qat.data.manifest import read_manifest

    from .native_logs import without_native_notes
    from .post_training import check_request, quantize_after_training

    if args.utterances < 1:
        raise ValueError(f"--utterances: received {args.utterances}, expected at least 1")
    check_request(args.bits, args.algorithm, args.static, calibrated=bool(args.audio))
    rows = read_manifest(args.audio) if args.audio else []
    count = min(args.utterances, len(rows))
    waves = [load_audio(rows[i * len(rows) // count].audio_filepath) for i in range(count)]
    with without_native_notes():
        layers = quantize_after_training(
            args.model, args.out, args.bits, args.algorithm, waves, args.static
        )
    size, before = Path(args.out).stat().st_size, Path(args.model).stat().st_size
    if args.json:
        print(json.dumps({"path": args.out, "bytes": size, "layers": layers}))
        return 0
    types = ", ".join(f"{n} {kind}" for kind, n in Counter(layers.values()).items())
    print(f"{args.out}: {size:,} bytes, {size / before:.3f} of {args.model}; layers: {types}")
    return 0


if __name__ == "__main__":
    from asr_qat.tools.main import main_of

    main_of(sys.modules[__name__])
