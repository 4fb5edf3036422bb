"""What zeros bring in a file: size after compression, and TFLite's sparse weights.

    python benchmarks/sparse_weights.py

One layer of 2,048 inputs and 1,280 outputs with random normal weights, the smallest of them zero:
single ones, and blocks of 8 neighbouring outputs. Bytes are those of the file, and after zlib at
level 9. Times are microseconds of one row on one thread, the median of turns; the files take
turns. ``error`` is the largest difference from the float product, as a share of its largest value.
A sparse file stores INT8 blocks of 16 neighbouring inputs, the one form that TFLite's own kernels
have for INT8.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
import zlib
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from asr_qat.export.flatbuffer import write_model
from asr_qat.export.graph import per_channel
from asr_qat.export.int_weights import TENSOR_TYPES, pack_codes
from asr_qat.export.testing import ModelBuilder
from asr_qat.quantization.sparsity import magnitude_mask
from asr_qat.tools.native_logs import without_native_notes
from asr_qat.tools.table import print_table

INPUTS, OUTPUTS, BLOCK = 2048, 1280, 16
ROUNDS, CALLS = 9, 30
SPARSITIES = (0.0, 0.5, 0.7, 0.8)
ENGINES = {
    "XNNPACK": OpResolverType.BUILTIN,
    "built-in": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def layer_file(weights: np.ndarray, bits: int, sparse: bool = False) -> bytes:
    """A file with one FULLY_CONNECTED; weights float32 ``[out, in]``, stored sparse or dense."""
    largest = 2 ** (bits - 1) - 1
    scale = (np.abs(weights).max(axis=1) / largest).astype(np.float32)
    codes = np.clip(np.round(weights / scale[:, None]), -largest, largest).astype(np.int8)
    values, sparsity = sparse_blocks(codes) if sparse else (codes, None)
    b = ModelBuilder()
    b.begin()
    x = b.tensor([1, INPUTS])
    w = b.constant(pack_codes(np.ascontiguousarray(values), bits))
    tensor = b.graph.tensors[w]
    tensor.shape, tensor.type = list(weights.shape), TENSOR_TYPES[bits]
    tensor.quantization, tensor.sparsity = per_channel(scale), sparsity
    options = schema.FullyConnectedOptionsT()
    options.asymmetricQuantizeInputs = True
    bias = b.constant(np.zeros(OUTPUTS, np.float32))
    y = b.op("FULLY_CONNECTED", [x, w, bias], [1, OUTPUTS], options, version=12)
    b.end("f", {"x": x}, {"y": y})
    return write_model(b.model)


def sparse_blocks(codes: np.ndarray) -> tuple[np.ndarray, schema.SparsityParametersT]:
    """The blocks that are not all zero, and where they are (compressed sparse rows)."""
    blocks = codes.reshape(len(codes), -1, BLOCK)
    filled = blocks.any(axis=-1)
    rows, columns, within = (schema.DimensionMetadataT() for _ in range(3))
    rows.denseSize, within.denseSize = len(codes), BLOCK
    columns.format = schema.DimensionType.SPARSE_CSR
    columns.arraySegmentsType = columns.arrayIndicesType = schema.SparseIndexVector.Int32Vector
    columns.arraySegments, columns.arrayIndices = schema.Int32VectorT(), schema.Int32VectorT()
    columns.arraySegments.values = np.concatenate([[0], np.cumsum(filled.sum(1))]).astype(np.int32)
    columns.arrayIndices.values = np.nonzero(filled)[1].astype(np.int32)
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.blockMap = [0, 1, 2], [1]
    sparsity.dimMetadata = [rows, columns, within]
    return blocks[filled].reshape(-1), sparsity


def pruned(weights: np.ndarray, sparsity: float, outputs: int = 1, inputs: int = 1) -> np.ndarray:
    """Weights ``[out, in]`` with the smallest blocks of so many outputs or inputs zero."""
    if inputs > 1:
        return weights * magnitude_mask(weights, sparsity, inputs)
    return weights * magnitude_mask(weights.T, sparsity, outputs).T


def run(files: dict[str, tuple[bytes, np.ndarray, str]]) -> dict[str, tuple[float, float]]:
    """Microseconds and error of each file (content, float weights, engine); they take turns."""
    x = np.random.default_rng(1).normal(size=(1, INPUTS)).astype(np.float32)
    interpreters, errors = {}, {}
    for name, (content, weights, engine) in files.items():
        interpreter = Interpreter(
            model_content=content, experimental_op_resolver_type=ENGINES[engine], num_threads=1
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        y, exact = (
            interpreter.get_tensor(interpreter.get_output_details()[0]["index"]),
            x @ weights.T,
        )
        errors[name] = float(np.abs(y - exact).max() / np.abs(exact).max())
        interpreters[name] = interpreter
    taken: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(ROUNDS):
        for name, interpreter in interpreters.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                interpreter.invoke()
            taken[name].append((time.perf_counter() - start) / CALLS * 1e6)
    return {name: (statistics.median(taken[name]), errors[name]) for name in files}


def main() -> None:
    """Builds, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", help="write the rows there")
    args = parser.parse_args()
    weights = np.random.default_rng(0).normal(size=(OUTPUTS, INPUTS)).astype(np.float32) / 45
    sizes = []
    for bits in (4, 8):
        for sparsity in SPARSITIES:
            files = [layer_file(pruned(weights, sparsity, block), bits) for block in (1, 8)]
            sizes.append(
                {
                    "bits": bits,
                    "sparsity": sparsity,
                    "bytes": len(files[0]),
                    "compressed": len(zlib.compress(files[0], 9)),
                    "compressed_blocks_of_8": len(zlib.compress(files[1], 9)),
                }
            )
    files: dict[str, tuple[bytes, np.ndarray, str]] = {}
    for engine in ENGINES:
        files[f"int8 dense, {engine}"] = (layer_file(weights, 8), weights, engine)
        files[f"int4 dense, {engine}"] = (layer_file(weights, 4), weights, engine)
        for sparsity in SPARSITIES[1:]:
            zeros = pruned(weights, sparsity)
            name = f"int4 dense, {sparsity:.0%} zeros, {engine}"
            files[name] = (layer_file(zeros, 4), zeros, engine)
            blocks = pruned(weights, sparsity, inputs=BLOCK)
            name = f"int8 sparse, {sparsity:.0%} zeros, {engine}"
            files[name] = (layer_file(blocks, 8, sparse=True), blocks, engine)
    with without_native_notes():
        times = run(files)
    header = ("bits", "zeros", "bytes", "compressed", "compressed, blocks of 8")
    print_table([header, *(tuple(f"{v:,}" for v in row.values()) for row in sizes)])
    rows = [(name, f"{us:.1f}", f"{error:.1e}") for name, (us, error) in times.items()]
    print_table([("file, engine", "us", "error"), *rows])
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread")
    if args.json:
        found = [{"file": k, "microseconds": us, "error": e} for k, (us, e) in times.items()]
        partial = Path(args.json + ".partial")
        partial.write_text(json.dumps({"sizes": sizes, "times": found}, indent=1) + "\n")
        os.replace(partial, args.json)


if __name__ == "__main__":
    sys.exit(main())
