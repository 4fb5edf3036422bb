"""Layers of every recipe on every engine: how many numbers are not what the formulas say.

    python benchmarks/engine_parity.py

Also the share of output codes of static layers that are not the training step's on engines that
requantize in integers.
"""

import argparse

import numpy as np

from asr_qat.export.parity.kernels import Target, run_file
from asr_qat.export.parity.layer_file import file_of
from asr_qat.export.parity.layer_parity import StoredWeights, check_layer
from asr_qat.export.parity.one_layer import static_file
from asr_qat.export.parity.static_parity import trained
from asr_qat.layers.dense import Dense
from asr_qat.quantization.spec import RECIPES

SHAPES = [(64, 256, 1024), (64, 1024, 256), (64, 144, 432), (64, 576, 144), (1, 320, 100)]
ENGINES = [Target.here(), Target.BUILTIN, Target.REFERENCE]


def rows_of(rng, rows, k):
    """Random rows of many sizes; silent, constant, one-sided and spiky ones among the first."""
    x = rng.normal(size=(rows, k)) * rng.uniform(0.01, 30, (rows, 1)) + rng.normal(size=(rows, 1))
    if rows > 4:
        x[0], x[1], x[2], x[3, 0], x[4] = 0, 1.5, -np.abs(x[2]), 1e4, np.abs(x[4])
    return x.astype(np.float32)


def dense_layer(rng, recipe, k, channels, x):
    """A layer with random weights, one channel silent; static ranges from the rows."""
    layer = Dense(channels, precision=recipe)
    layer.build((None, k))
    kernel = rng.normal(size=(k, channels)) * rng.uniform(0.01, 3, channels)
    kernel[:, 0] = 0
    layer.kernel.assign(kernel.astype(np.float32))
    layer.bias.assign(rng.normal(size=channels).astype(np.float32))
    layer(x, training=True)
    return layer


def check(recipe, engine):
    """Prints one line of the table."""
    outputs = integers = differ = 0
    error = 0.0
    for seed, (rows, k, channels) in enumerate(SHAPES):
        rng = np.random.default_rng(seed)
        x = rows_of(rng, rows, k)
        layer = dense_layer(rng, recipe, k, channels, np.clip(x, -40, 50))
        found = check_layer(layer, x, StoredWeights(file_of(layer, rows)), engine)
        outputs, differ = outputs + rows * channels, differ + found.outputs_differ
        integers += found.codes_differ + found.scales_differ + found.row_codes_differ
        integers += found.accumulators_differ + found.output_codes_differ
        error = max(error, found.float_error)
    print(f"{recipe:27s} {engine.value:13s} {outputs:8d} {integers:8d} {differ:8d} {error:9.1e}")


def requantized(recipe, engine):
    """Prints the output codes of a large static layer that are not the training step's."""
    rng = np.random.default_rng(0)
    x = (3 * rng.normal(size=(1024, 256))).astype(np.float32)
    layer = dense_layer(rng, recipe, 256, 1024, x)
    source, result, scale, codes, bias, y = trained(layer, x)
    bits = layer.spec.weight.bits
    content = static_file(codes.T, scale, bias, bits, len(x), source, result, dequantized=False)
    theirs = run_file(content, x, engine).astype(int)
    ours = np.rint(y / np.float32(result.scale)).astype(int) + result.zero_point
    apart = np.abs(theirs - ours)
    print(f"{recipe:27s} {engine.value:13s} {np.sum(apart > 0)} of {apart.size}, by {apart.max()}")


def main():
    """Prints both tables."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(f"{'recipe':27s} {'engine':13s} {'outputs':>8s} {'integers':>8s} {'beyond':>8s} error")
    for recipe in RECIPES:
        for engine in ENGINES:
            check(recipe, engine)
    print("\noutput codes that are not the training step's")
    for recipe in ("static_wi8_ai8", "static_wi4_ai8"):
        for engine in ENGINES:
            requantized(recipe, engine)


if __name__ == "__main__":
    main()
