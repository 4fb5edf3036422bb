"""Time of a training step: float, fake-quantized, native int8 and int4, beside each other.

    python benchmarks/train_step.py --json train_step.json
    python benchmarks/train_step.py --presets conformer_s --backends jax

A step is `train_on_batch` of the whole model, compiled by XLA: front end, SpecAugment, encoder,
decoder, loss, gradients, AdamW. ``fake_quant`` quantizes weights and activations as int4 does (8
bits for activations), but to values on the grid in float32, which float products multiply: what
quantization-aware training is elsewhere. The modes of a backend and a preset take turns in one
process, one for each backend; ratios are medians of each round's ratio.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

VOCABULARY = 1024
MODES = {
    "float32": "float32",
    "fake_quant": "dynamic_wi4_afp32",
    "int8": "dynamic_wi8_afp32",
    "int4": "dynamic_wi4_afp32",
}
FIELDS = ("backend", "device", "preset", "mode", "milliseconds")
RATIOS = ("ratio_to_float", "ratio_to_fake_quant")


def fake_quantize(model: Any) -> None:
    """Has every quantized dense layer multiply floats that stand on the integers' grid."""
    import keras
    from keras import ops

    from asr_qat.quantization import integers, matmul
    from asr_qat.quantization.quantizers import Product, as_rows, as_tensor, like_rows_of, with_bias

    @keras.ops.custom_gradient
    def on_grid(x):
        def gradient(*args, upstream=None):
            return args[0] if upstream is None else upstream

        return integers.dequantized_rows(integers.asymmetric_rows(x)), gradient

    class FakeQuantProduct(Product):
        def __init__(self, weight):
            self.weight = weight

        def __call__(self, x, kernel, bias=None, training=False):
            weights = matmul.dequantized_kernel(as_tensor(kernel), self.weight)
            return like_rows_of(x, with_bias(ops.matmul(on_grid(as_rows(x)), weights), bias))

    for layer in model.dense_layers():
        if layer.spec.weight is not None:
            layer.product = FakeQuantProduct(layer.spec.weight)


def model_of(preset_name: str, mode: str) -> Any:
    """A compiled model."""
    import keras

    from asr_qat.models.presets import preset
    from asr_qat.models.transducer import Transducer

    keras.utils.set_random_seed(0)
    pieces = ["<blank>", *(f"▁{i}" for i in range(1, VOCABULARY))]
    model = Transducer(preset(preset_name), {"pieces": pieces}, MODES[mode])
    if mode == "fake_quant":
        fake_quantize(model)
    model.compile(keras.optimizers.AdamW(1e-4, global_clipnorm=5.0), jit_compile=True)
    return model


def batch_of(rows: int, seconds: float, labels: int) -> dict[str, Any]:
    """Noise, and random labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    samples = int(seconds * 16000)
    return {
        "audio": (0.1 * rng.normal(size=(rows, samples))).astype("float32"),
        "audio_length": np.full(rows, samples, "int32"),
        "labels": rng.integers(1, VOCABULARY, (rows, labels)).astype("int32"),
        "label_length": np.full(rows, labels, "int32"),
    }


def device() -> str:
    """What the active backend computes on."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import tensorflow as tf

    return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"


def measure(preset_name: str, modes: list[str], rounds: int, batch: dict[str, Any]) -> list[dict]:
    """The rows of one preset, on the active backend."""
    import keras
    from tqdm import tqdm

    models = {}
    for mode in modes:
        models[mode] = model_of(preset_name, mode)
        start = time.perf_counter()
        models[mode].train_on_batch(batch)
        spent = time.perf_counter() - start
        print(f"{preset_name}, {mode}: compiled in {spent:.0f} s", file=sys.stderr)
    times: dict[str, list[float]] = {mode: [] for mode in modes}
    for number in tqdm(range(rounds), desc=preset_name, disable=not sys.stderr.isatty()):
        # In another order each round, so that none always follows the same one.
        for mode in [*modes[number % len(modes) :], *modes[: number % len(modes)]]:
            start = time.perf_counter()
            float(models[mode].train_on_batch(batch))
            times[mode].append(1e3 * (time.perf_counter() - start))

    def ratio(mode, other):
        if other not in times:
            return None
        return round(
            statistics.median(a / b for a, b in zip(times[mode], times[other], strict=True)), 3
        )

    return [
        {
            "backend": keras.backend.backend(),
            "device": device(),
            "preset": preset_name,
            "mode": mode,
            "milliseconds": round(statistics.median(times[mode]), 1),
            "ratio_to_float": ratio(mode, "float32"),
            "ratio_to_fake_quant": ratio(mode, "fake_quant"),
        }
        for mode in modes
    ]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", default="conformer_s,conformer_m")
    parser.add_argument("--backends", default="tensorflow,jax")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--rounds", type=int, default=15, help="steps of each mode (15)")
    parser.add_argument("--rows", type=int, default=8, help="utterances of a batch (8)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of an utterance (8)")
    parser.add_argument("--labels", type=int, default=32, help="of an utterance (32)")
    parser.add_argument("--json", help="file for the rows")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        batch = batch_of(args.rows, args.seconds, args.labels)
        for name in args.presets.split(","):
            print(json.dumps(measure(name, args.modes.split(","), args.rounds, batch)), flush=True)
        return
    rows = []
    for backend in args.backends.split(","):
        command = [sys.executable, __file__, "--worker", *sys.argv[1:]]
        environment = {**os.environ, "KERAS_BACKEND": backend}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{backend}: failed with exit code {done.returncode}")
        rows += [row for line in done.stdout.splitlines() for row in json.loads(line)]
    from asr_qat.tools.table import print_table

    print(
        f"batches of {args.rows} x {args.seconds:g} s, {os.cpu_count()} CPUs, {platform.machine()}"
    )
    columns = [*FIELDS, *RATIOS]
    print_table([columns, *([str(row[column]) for column in columns] for row in rows)])
    if args.json:
        temporary = Path(args.json).with_suffix(".partial")
        temporary.write_text(json.dumps(rows, indent=1) + "\n")
        os.replace(temporary, args.json)


if __name__ == "__main__":
    main()
