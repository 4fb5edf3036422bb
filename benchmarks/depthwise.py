"""Gradient of the depthwise convolution: a sum of shifted products beside Keras' own operator.

    python benchmarks/depthwise.py
    KERAS_BACKEND=jax python benchmarks/depthwise.py

Forward and backward of one layer, compiled by XLA, the two in turns; the ratio is the median of
each round's.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops

from asr_qat.backend import compiled
from asr_qat.layers.convolution import filtered
from asr_qat.tools.table import print_table


def by_keras(frames, kernel):
    """What `filtered` computes, by the operator that Keras has for it."""
    return ops.depthwise_conv(frames, kernel[:, :, None], padding="valid")


def gradients(function):
    """``(frames, kernel, upstream) -> (frames' gradient, kernel's)``, compiled."""
    if keras.backend.backend() == "jax":
        import jax

        return compiled(lambda x, kernel, dy: jax.vjp(function, x, kernel)[1](dy))
    import tensorflow as tf

    def differentiate(x, kernel, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function(x, kernel)
        return tape.gradient(y, [x, kernel], dy)

    return compiled(differentiate)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    rows = [("batch", "frames", "dim", "taps", "Keras ms", "ours ms", "ours / Keras")]
    for batch, time_steps, dim, taps in ((16, 100, 192, 9), (32, 100, 144, 15), (8, 200, 512, 15)):
        rng = np.random.default_rng(0)
        shapes = (batch, time_steps + taps - 1, dim), (taps, dim), (batch, time_steps, dim)
        arrays = [ops.convert_to_tensor(rng.normal(size=s).astype("float32")) for s in shapes]
        functions = [gradients(f) for f in (by_keras, filtered)]
        rounds = [[_milliseconds(f, arrays) for f in functions] for _ in range(args.rounds + 1)][1:]
        ratio = statistics.median(ours / theirs for theirs, ours in rounds)
        medians = (f"{statistics.median(each):.2f}" for each in zip(*rounds, strict=True))
        rows.append((*map(str, (batch, time_steps, dim, taps)), *medians, f"{ratio:.3f}"))
    print(f"Keras on {keras.backend.backend()}")
    print_table(rows)


def _milliseconds(function, arrays):
    start = time.perf_counter()
    ops.convert_to_numpy(function(*arrays)[0])
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
