"""Bytes and latency of every recipe, beside AI Edge Quantizer's and Keras' on the same model.

    python benchmarks/export_table.py --presets streaming_s,streaming_l --json table.json

Weights are random: nothing here depends on their values. The bytes are those of a whole file with
front end, encoder, prediction, joint and recognize_chunk; bits per parameter are all of the file's
bits over the model's parameters. Latency is that of one streaming encoder chunk on one thread: the
files of a chunk size take turns in one process, and the median over the rounds is quoted.
``products`` is the encoder with nothing left in it but FULLY_CONNECTED.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tqdm import tqdm

from asr_qat.export.build import fill, float16_served, trace
from asr_qat.export.convert import convert
from asr_qat.export.flatbuffer import indices, operator_name, read_model, write_model
from asr_qat.export.lowering import weighted_layers
from asr_qat.export.signatures import chunk_signatures, decoder_signatures
from asr_qat.layers.dense import Dense
from asr_qat.models.presets import preset
from asr_qat.models.transducer import Transducer
from asr_qat.quantization.ranges import calibrate
from asr_qat.runtime.signature import Signature
from asr_qat.tools.native_logs import without_native_notes
from asr_qat.tools.table import print_table

RATE = 16000  # Hz
DEFAULT_MS = 320  # chunk of the files whose bytes are counted
LABELS = 1024
ROUNDS, CALLS = 15, 3  # turns of a file, and calls in each

# Rules, and whether what stays float is stored as float16.
RECIPES: dict[str, tuple[list[tuple[str, str]], bool]] = {
    "float32": ([], False),
    "float16": ([], True),
    "dynamic_wi8_afp32": ([("encoder/", "dynamic_wi8_afp32")], True),
    "dynamic_wi4_afp32": ([("encoder/", "dynamic_wi4_afp32")], True),
    "mixed_wi4_wi8": (
        [("encoder/", "dynamic_wi4_afp32"), ("subsampling/", "dynamic_wi8_afp32")],
        True,
    ),
    "mixed_wi2_wi4": (
        [("encoder/", "dynamic_wi4_afp32"), ("feed_forward", "dynamic_wi2_afp32")],
        True,
    ),
    "dynamic_wi2_afp32": ([("encoder/", "dynamic_wi2_afp32")], True),
    "weight_only_wi4_afp32": ([("encoder/", "weight_only_wi4_afp32")], True),
    "static_wi8_ai8": ([("encoder/", "static_wi8_ai8")], True),
    "static_wi4_ai8": ([("encoder/", "static_wi4_ai8")], True),
    "wi4_ai4": ([("encoder/", "wi4_ai4")], True),
}
OWN_TRACE = {"wi4_ai4"}  # has operators that the other recipes do not have
AEQ = {"dynamic_wi8_afp32": 8, "dynamic_wi4_afp32": 4}


def make_model(name: str, rules: list[tuple[str, str]]) -> Transducer:
    """A preset with random weights and a vocabulary of `LABELS`; static ranges observed."""
    pieces = ["<blank>", *(chr(0x4E00 + i) for i in range(LABELS - 1))]
    model = Transducer(preset(name), {"kind": "characters", "pieces": pieces}, rules)
    audio = np.random.default_rng(0).normal(size=(1, RATE)).astype(np.float32) * 0.1
    calibrate(model.dense_layers(), lambda x: model.encode(x, np.array([RATE])), [audio])
    return model


def file_signatures(model: Transducer) -> list:
    """Those of an exported file."""
    chunks = chunk_signatures(model, RATE * DEFAULT_MS // 1000)
    return [*chunks, *decoder_signatures(model)]


def encoder_signature(model: Transducer, chunk_ms: int) -> list:
    """The encoder on one chunk size, alone."""
    return [s for s in chunk_signatures(model, RATE * chunk_ms // 1000) if s.name == "encoder"]


def our_files(name: str, recipes: list[str], signatures: Callable) -> Iterator[tuple[str, bytes]]:
    """Recipe and file, one after the other."""
    traces: dict[bool, bytes] = {}
    for recipe in recipes:
        rules, float16 = RECIPES[recipe]
        model = make_model(name, rules)
        wanted = signatures(model)
        layers = weighted_layers(model)
        if len(wanted) == 1:
            layers = [layer for layer in layers if layer.path.startswith("transducer/encoder/")]
        with float16_served(model, weighted_layers(model), True):
            own = recipe in OWN_TRACE
            if own not in traces:
                traces[own] = trace(wanted, layers, model.variables)
            yield recipe, fill(traces[own], layers, float16)
        del model, layers, wanted
        gc.collect()


def ai_edge_quantizer(content: bytes, bits: int) -> bytes:
    """AI Edge Quantizer's own dynamic recipe on a float file."""
    from ai_edge_quantizer import quantizer, recipe

    rules = {8: recipe.dynamic_wi8_afp32, 4: recipe.dynamic_wi4_afp32}[bits]()
    nothing = io.StringIO()
    with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        job = quantizer.Quantizer(bytearray(content))
        job.load_quantization_recipe(rules)
        return bytes(job.quantize().quantized_model)


def keras_int4(name: str, signatures: Callable) -> bytes:
    """The same graph with Keras' own Dense layers, `quantize("int4")`, converted by TensorFlow."""
    model = make_model(name, [])
    held = [v for layer in weighted_layers(model) for v in layer.variables]
    variables = [v for v in model.variables if not any(v is h for h in held)]
    for layer in model.dense_layers():
        dense = keras.layers.Dense(layer.units, use_bias=layer.use_bias)
        dense.build((None, layer.kernel.shape[0]))
        if layer.path.startswith("transducer/encoder/"):
            dense.quantize("int4")
        layer.product = lambda x, kernel, bias, training, dense=dense: dense(x)
        variables += dense.variables
    variables += [layer.kernel for layer in weighted_layers(model) if not isinstance(layer, Dense)]
    return convert(signatures(model), [v.value for v in variables])


def products_alone(content: bytes) -> bytes:
    """The file with every FULLY_CONNECTED on inputs of the graph, and nothing else."""
    model = read_model(content)
    graph = model.subgraphs[0]
    codes = model.operatorCodes
    named = [(op, operator_name(codes[op.opcodeIndex])) for op in graph.operators]
    products = [op for op, name in named if name == "FULLY_CONNECTED"]
    weights = {indices(op.inputs)[1] for op in products}
    unpacking = [op for op, name in named if name == "DEQUANTIZE" and op.outputs[0] in weights]
    sources: dict[tuple, int] = {}
    for op in products:
        first, *rest = indices(op.inputs)
        op.inputs = [sources.setdefault(tuple(graph.tensors[first].shape), first), *rest]
    graph.operators, graph.inputs = [*unpacking, *products], list(sources.values())
    graph.outputs = [indices(op.outputs)[0] for op in products]
    signature = model.signatureDefs[0]
    signature.inputs, signature.outputs = (
        [_entry(f"{name}_{i}", tensor) for i, tensor in enumerate(tensors)]
        for name, tensors in (("x", graph.inputs), ("y", graph.outputs))
    )
    return write_model(model)


def _entry(name, tensor):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry


def latencies(files: dict[str, Path], rounds: int) -> dict[str, float]:
    """Median milliseconds of a call on one thread; the files take turns."""
    runs = {}
    rng = np.random.default_rng(0)
    for name, path in files.items():
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        run = Signature(interpreter, "encoder")
        for value in run.inputs.values():
            value[...] = rng.normal(size=value.shape) * 0.1
        run.invoke()
        runs[name] = (interpreter, run)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (_, run) in runs.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                run.invoke()
            taken[name].append((time.perf_counter() - start) / CALLS * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def rows_of(name: str, args, progress: tqdm) -> list[dict]:
    """The rows of one preset."""
    parameters = make_model(name, []).count_params()
    sizes: dict[tuple[str, str], int | None] = {}

    def engines(signatures):
        """Engine, recipe and file of everybody."""
        for recipe, content in our_files(name, args.recipes, signatures):
            yield "asr_qat", recipe, content
            if recipe == "float32" and "ai_edge_quantizer" in args.engines:
                for theirs, bits in AEQ.items():
                    yield "ai_edge_quantizer", theirs, ai_edge_quantizer(content, bits)
        if name in args.keras_presets:
            yield "keras", "int4", keras_int4(name, signatures)

    progress.set_description(f"{name}: bytes")
    for engine, recipe, content in engines(file_signatures):
        sizes[engine, recipe] = len(content)
        progress.update()
    rows = []
    for chunk_ms in args.chunk_ms:
        progress.set_description(f"{name}: {chunk_ms} ms")
        with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
            files: dict[tuple[str, str], Path] = {}
            for key in engines(lambda model: encoder_signature(model, chunk_ms)):  # noqa: B023
                engine, recipe, content = key
                files[engine, recipe] = Path(folder, f"{len(files)}.tflite")
                files[engine, recipe].write_bytes(content)
                if engine == "asr_qat":
                    products = Path(folder, f"products_{len(files)}.tflite")
                    products.write_bytes(products_alone(content))
                    files["products", recipe] = products
                progress.update()
            found = latencies(files, args.rounds)
        for (engine, recipe), size in sizes.items():
            products_ms = found.get(("products", recipe)) if engine == "asr_qat" else None
            rows.append(
                {
                    "preset": name,
                    "recipe": recipe,
                    "engine": engine,
                    "parameters": parameters,
                    "bytes": size,
                    "bits_per_parameter": 8 * size / parameters,
                    "ratio_to_float32": sizes["asr_qat", "float32"] / size,
                    "chunk_ms": chunk_ms,
                    "latency_ms": found[engine, recipe],
                    "latency_ratio_to_float32": found["asr_qat", "float32"] / found[engine, recipe],
                    "products_ms": products_ms,
                }
            )
    return rows


def show(rows: list[dict]) -> None:
    """Prints bytes once for each file, then latencies by chunk size."""
    chunks = sorted({row["chunk_ms"] for row in rows})
    header = ("preset", "engine", "recipe", "bytes", "bits", "smaller")
    table = [(*header, *(f"{c} ms" for c in chunks))]
    by_file: dict[tuple, dict[int, dict]] = {}
    for row in rows:
        key = (row["preset"], row["engine"], row["recipe"])
        by_file.setdefault(key, {})[row["chunk_ms"]] = row
    for key, found in by_file.items():
        first = next(iter(found.values()))
        cells = []
        for chunk in chunks:
            row = found[chunk]
            cell = f"{row['latency_ms']:.2f} ({row['latency_ratio_to_float32']:.1f}x"
            if row["products_ms"] is not None:
                cell += f", {row['latency_ms'] / row['products_ms']:.2f}"
            cells.append(cell + ")")
        table.append(
            (
                *key,
                f"{first['bytes']:,}",
                f"{first['bits_per_parameter']:.2f}",
                f"{first['ratio_to_float32']:.2f}x",
                *cells,
            )
        )
    print_table(table)
    print(
        "Latency in ms of one chunk on one thread (times faster than float32, and for our files "
        "times its products alone)."
    )


def main() -> None:
    """Builds, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    listed = lambda text: text.split(",")  # noqa: E731
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--presets", type=listed, default="streaming_s,streaming_m,streaming_l")
    parser.add_argument("--recipes", type=listed, default=",".join(RECIPES))
    parser.add_argument("--engines", type=listed, default="asr_qat,ai_edge_quantizer")
    parser.add_argument(
        "--keras-presets",
        type=listed,
        default="streaming_s",
        help="those that Keras quantizes too; its int4 graph of S alone takes minutes to convert",
    )
    parser.add_argument("--chunk-ms", type=numbers, default="80,160,320,640,1280")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each file")
    parser.add_argument("--scratch", help="folder for the files while they are measured")
    parser.add_argument("--json", help="write the rows there")
    args = parser.parse_args()
    unknown = set(args.recipes) - set(RECIPES)
    if unknown or "float32" not in args.recipes:
        parser.error(f"--recipes: expected float32 and others of {', '.join(RECIPES)}")
    peers = 2 if "ai_edge_quantizer" in args.engines else 0
    files = len(args.presets) * (len(args.recipes) + peers)
    files += len(set(args.presets) & set(args.keras_presets))
    total = files * (1 + len(args.chunk_ms))
    rows: list[dict] = []
    with without_native_notes() as terminal, tqdm(total=total, file=terminal) as progress:
        for name in args.presets:
            rows += rows_of(name, args, progress)
            if args.json:
                partial = Path(args.json + ".partial")
                partial.write_text(json.dumps(rows, indent=1) + "\n")
                os.replace(partial, args.json)
    show(rows)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    sys.exit(main())
