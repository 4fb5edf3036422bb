"""Every preset: parameters, work, latency, bytes, speed on this machine, and the proof of its file.

    python benchmarks/models_table.py --json models.json
    python benchmarks/models_table.py --presets conformer_s,cascaded,dynamic:small

Weights are random: nothing here depends on their values. ``dynamic:small`` is the sub-model that
the pass ``small`` needs. MACs are the multiplications that the file's front end, encoders and one
call of each joint network a frame do in a second of audio. Latency is algorithmic: a frame, and
what the last pass looks ahead. Bytes are those of a file without its metadata; int8 and int4 store
what stays float as float16. The real-time factor is the time of the same calls over the audio of a
chunk, on one thread: the three files take turns in one process, and the median over the rounds is
quoted. Parity: layers of the int4 file that are bit-equal to the Keras model's, on each of three
engines.
"""

import argparse
import gc
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tqdm import tqdm

from asr_qat.export import verify as verification
from asr_qat.export.build import build, float16_served
from asr_qat.export.exporter import chunks_of, export_model, recognizer_signatures
from asr_qat.export.flatbuffer import indices, operator_name, read_model, text
from asr_qat.export.lowering import weighted_layers
from asr_qat.models.presets import PRESETS, PUBLISHED, preset
from asr_qat.models.transducer import Transducer
from asr_qat.runtime.model_file import metadata_spans
from asr_qat.runtime.signature import Signature
from asr_qat.tools.native_logs import without_native_notes
from asr_qat.tools.table import print_table

LABELS = 1024  # of a preset that no publication gives a number for
ROUNDS, CALLS = 9, 2  # turns of a file, and chunks in each
PROVED = 6  # chunks of sound that the proof runs on
RECIPES = {"float32": "float32", "int8": "dynamic_wi8_afp32", "int4": "dynamic_wi4_afp32"}


def names() -> list[str]:
    """All presets, and the passes of those that have several sizes in one."""
    found = []
    for name in PRESETS:
        config = preset(name)
        sizes = config.passes if config.separate_decoders else ()
        found += [name, *(f"{name}:{size}" for size in sizes)]
    return found


def make_model(name: str, precision: str) -> Transducer:
    """A preset, or a sub-model of one, with random weights."""
    base, _, part = name.partition(":")
    labels = PUBLISHED[base].labels if base in PUBLISHED else LABELS
    pieces = ["<blank>", *(chr(0x4E00 + i) for i in range(labels - 1))]
    config = preset(base).up_to(part) if part else preset(base)
    return Transducer(config, {"kind": "characters", "pieces": pieces}, precision)


def calls_of(model: Transducer, chunk_samples: int) -> dict[str, int]:
    """How often each signature is called for one chunk of audio."""
    features = chunk_samples // model.frontend.hop_samples
    calls = {"frontend": 1, **{stage.name: 1 for stage in model.stages}}
    for one in model.passes:
        calls[one.joint.name] = calls.get(one.joint.name, 0) + features // one.factor
    return calls


def multiplications(content: bytes, calls: dict[str, int]) -> int:
    """Multiply-accumulates of so many calls of signatures of a file."""
    model = read_model(content)
    total = 0
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        each = sum(_multiplications(model, graph, op) for op in graph.operators)
        total += each * calls.get(text(signature.signatureKey), 0)
    return total


def _multiplications(model: schema.ModelT, graph, op) -> int:
    def size(index):
        return math.prod(indices(graph.tensors[index].shape))

    def last(index):
        return indices(graph.tensors[index].shape)[-1]

    name = operator_name(model.operatorCodes[op.opcodeIndex])
    inputs, result = indices(op.inputs), indices(op.outputs)[0]
    if name in ("FULLY_CONNECTED", "BATCH_MATMUL"):
        return size(result) * last(inputs[0])
    if name == "DEPTHWISE_CONV_2D":
        return size(result) * size(inputs[1]) // last(inputs[1])
    return 0


def real_time_factors(
    files: dict[str, Path], calls: dict[str, int], seconds: float, rounds: int
) -> dict[str, float]:
    """Time of the calls of one chunk over its seconds, on one thread; the files take turns."""
    runs = {}
    for name, path in files.items():
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        parts = [(Signature(interpreter, part), count) for part, count in calls.items()]
        for run, _ in parts:
            run.invoke()
        runs[name] = (interpreter, parts)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (_, parts) in runs.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                for run, count in parts:
                    for _ in range(count):
                        run.invoke()
            taken[name].append((time.perf_counter() - start) / CALLS / seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def row_of(name: str, folder: Path, rounds: int) -> dict:
    """One preset's row."""
    files = {precision: folder / f"{precision}.tflite" for precision in RECIPES}
    report = export_model(make_model(name, RECIPES["int4"]), files["int4"], float16=True)
    gc.collect()
    write_unproved(name, "float32", files["float32"])
    write_unproved(name, "int8", files["int8"])
    model = make_model(name, RECIPES["float32"])
    chunk_samples = chunks_of(model, None)[""]
    calls = calls_of(model, chunk_samples)
    parameters = model.count_params()
    milliseconds = 1000 * model.frame_samples / model.config.frontend.sample_rate
    delay = model.passes[-1].delay
    seconds = chunk_samples / model.config.frontend.sample_rate
    del model
    gc.collect()
    macs = multiplications(files["int4"].read_bytes(), calls)
    factors = real_time_factors(files, calls, seconds, rounds)
    served = {encoder.target: report.layers_on(encoder.target) for encoder in report.encoders}
    return {
        "preset": name,
        "parameters": parameters,
        "published_parameters": PUBLISHED[name].parameters if name in PUBLISHED else None,
        "macs_per_second": round(macs / seconds),
        "latency_ms": round(milliseconds * (1 + delay)),
        "chunk_ms": round(1000 * seconds),
        **{f"{precision}_bytes": bare_bytes(path) for precision, path in files.items()},
        **{f"rtf_{precision}": factors[precision] for precision in files},
        "parity": {
            "exact": report.exact,
            "layers": {
                target: [sum(layer.bit_equal for layer in layers), len(layers)]
                for target, layers in served.items()
            },
        },
    }


def bare_bytes(path: Path) -> int:
    """Bytes of a file without our metadata: the table of layers, the vocabulary, the proof."""
    content = path.read_bytes()
    return len(content) - sum(length for _, length in metadata_spans(content).values())


def write_unproved(name: str, precision: str, path: Path) -> None:
    """A file without metadata and proof; but for float32 its floats are stored as float16."""
    model = make_model(name, RECIPES[precision])
    layers, half = weighted_layers(model), precision != "float32"
    signatures = recognizer_signatures(model, chunks_of(model, None), utterance=False)
    with float16_served(model, layers, half):
        path.write_bytes(build(signatures, layers, model.variables, half))
    del model, layers, signatures
    gc.collect()


def show(rows: list[dict]) -> None:
    """Prints the table."""
    header = ("preset", "parameters", "published", "MACs/s", "latency")
    table: list[tuple[str, ...]] = [
        (*header, *(f"{p} MB" for p in RECIPES), *(f"RTF {p}" for p in RECIPES), "parity of int4")
    ]
    for row in rows:
        published = row["published_parameters"]
        layers = row["parity"]["layers"]
        table.append(
            (
                row["preset"],
                f"{row['parameters'] / 1e6:.2f} M",
                f"{published / 1e6:.1f} M ({row['parameters'] / published - 1:+.1%})"
                if published
                else "",
                f"{row['macs_per_second'] / 1e9:.3f} G",
                f"{row['latency_ms']} ms",
                *(f"{row[f'{p}_bytes'] / 1e6:.2f}" for p in RECIPES),
                *(f"{row[f'rtf_{p}']:.4f}" for p in RECIPES),
                ", ".join(f"{equal}/{total}" for equal, total in layers.values()),
            )
        )
    print_table(table)
    engines = ", ".join(rows[0]["parity"]["layers"])
    print(f"Parity: layers bit-equal on {engines}.")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread")


def main() -> None:
    """Builds, proves, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default=",".join(names()), help="names, joined by commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each file")
    parser.add_argument("--scratch", help="folder for the files while they are measured")
    parser.add_argument("--json", help="write the rows there")
    args = parser.parse_args()
    wanted = args.presets.split(",")
    unknown = set(wanted) - set(names())
    if unknown:
        parser.error(f"--presets: received {sorted(unknown)}, expected some of {names()}")
    verification.CHUNKS = PROVED
    rows: list[dict] = []
    with without_native_notes() as terminal, tqdm(wanted, file=terminal) as progress:
        for name in progress:
            progress.set_description(name)
            with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
                rows.append(row_of(name, Path(folder), args.rounds))
            gc.collect()
            if args.json:
                partial = Path(args.json + ".partial")
                partial.write_text(json.dumps(rows, indent=1) + "\n")
                os.replace(partial, args.json)
    show(rows)


if __name__ == "__main__":
    sys.exit(main())
