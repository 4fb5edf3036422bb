"""RNN-T loss with its joint network: ours, a plain one, and warprnnt-numba, in one process.

    pip install warprnnt-numba numba torch packaging      # the peer, if it is to run
    python benchmarks/rnnt_loss.py --json rnnt_loss.json
    KERAS_BACKEND=jax python benchmarks/rnnt_loss.py

Each implementation goes from the projected frames and predictions to the loss and its gradients
with respect to both, to the output weights and to the bias. ``plain`` holds the logits: a matrix
product, then this project's `rnnt_loss` of logits, compiled by XLA with the same Keras backend.
``warprnnt-numba`` is PyTorch's product, then that package's loss.

Milliseconds are medians over rounds in which the implementations take turns. Peak bytes are those
of a process of its own, from before its first step to the highest point of its second one, less
what the same program takes for a lattice of two frames and one label: compiled code, and whatever
else does not depend on the lattice. The error is the largest difference from NumPy's float64, over
loss and gradients, each relative to the largest absolute value of its tensor.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from asr_qat.losses.joint_rnnt import JointInputs, joint_rnnt_loss
from asr_qat.losses.memory import logits_bytes
from asr_qat.losses.rnnt import rnnt_loss
from asr_qat.tools.table import print_table

SHAPES = [(8, 200, 40, 128), (8, 400, 80, 1024), (4, 800, 120, 4096)]
Step = Callable[[], list[np.ndarray]]


def example(shape: tuple[int, ...], dim: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs of the joint network, and labels with lengths; all rows are full."""
    batch, time_, count, vocabulary = shape
    rng = np.random.default_rng(0)
    inputs = [
        rng.normal(size=(batch, time_, dim)),
        rng.normal(size=(batch, count + 1, dim)),
        rng.normal(size=(vocabulary, dim)) * 2 * dim**-0.5,
        0.1 * rng.normal(size=vocabulary),
    ]
    labels = rng.integers(1, vocabulary, (batch, count))
    lengths = [labels, np.full(batch, time_), np.full(batch, count)]
    return [x.astype("float32") for x in inputs], [x.astype("int32") for x in lengths]


def fused_loss(inputs, lengths):
    """Ours."""
    return ops.mean(joint_rnnt_loss(JointInputs(*inputs), *lengths))


def plain_loss(inputs, lengths):
    """Of logits that are held."""
    frames, labels, table, bias = inputs
    hidden = ops.tanh(frames[:, :, None] + labels[:, None])
    rows = ops.reshape(hidden, (-1, hidden.shape[-1]))
    logits = ops.matmul(rows, ops.transpose(table)) + bias
    logits = ops.reshape(logits, (*hidden.shape[:-1], table.shape[0]))
    return ops.mean(rnnt_loss(logits, *lengths))


def keras_step(loss: Callable, inputs: list, lengths: list) -> Step:
    """Loss and gradients, compiled by XLA."""
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(jax.value_and_grad(lambda given: loss(given, lengths)))
        on_device = [jax.numpy.asarray(x) for x in inputs]

        def step():
            value, gradients = compiled(on_device)
            return [np.asarray(x) for x in (value, *gradients)]

        return step
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def compiled(*given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = loss(given, lengths)
        return [value, *tape.gradient(value, given)]

    tensors = [tf.constant(x) for x in inputs]
    return lambda: [x.numpy() for x in compiled(*tensors)]


def warprnnt_step(inputs: list, lengths: list) -> Step:
    """PyTorch's joint network and warprnnt-numba's loss."""
    import torch
    from warprnnt_numba import RNNTLossNumba

    loss = RNNTLossNumba(blank=0, reduction="mean")
    frames, labels, table, bias = (torch.tensor(x, requires_grad=True) for x in inputs)
    targets, frame_lengths, label_lengths = (torch.tensor(x) for x in lengths)

    def step():
        for x in (frames, labels, table, bias):
            x.grad = None
        hidden = torch.tanh(frames[:, :, None] + labels[:, None])
        logits = hidden @ table.T + bias
        value = loss(logits, targets, frame_lengths, label_lengths)
        value.backward()
        found = (value.detach(), frames.grad, labels.grad, table.grad, bias.grad)
        return [x.numpy() for x in found]

    return step


IMPLEMENTATIONS: dict[str, Callable[[list, list], Step]] = {
    "fused": lambda *given: keras_step(fused_loss, *given),
    "plain": lambda *given: keras_step(plain_loss, *given),
    "warprnnt-numba": warprnnt_step,
}


def reference(inputs: list[np.ndarray], lengths: list[np.ndarray]) -> list[np.ndarray]:
    """Loss and gradients in float64, a few frames at a time."""
    frames, predictions, table, bias = (x.astype("float64") for x in inputs)
    labels = lengths[0]
    batch, time_, width = *frames.shape[:2], predictions.shape[1]
    following = np.pad(labels, ((0, 0), (0, 1)))
    rows, columns = np.arange(batch)[:, None], np.arange(width)[None]

    def logits_of(t):
        hidden = np.tanh(frames[:, t, None] + predictions)
        return hidden, hidden @ table.T + bias

    stay, emit, norm = np.zeros((3, batch, time_, width))
    for t in range(time_):
        _, logits = logits_of(t)
        top = logits.max(-1)
        norm[:, t] = top + np.log(np.exp(logits - top[..., None]).sum(-1))
        stay[:, t] = logits[..., 0] - norm[:, t]
        emit[:, t] = logits[rows, columns, following] - norm[:, t]
    emit[:, :, -1] = -np.inf
    alpha = np.full((batch, time_, width), -np.inf)
    beta = np.full((batch, time_ + 1, width + 1), -np.inf)
    alpha[:, 0, 0], beta[:, time_, width - 1] = 0.0, 0.0
    for t in range(time_):
        if t:
            alpha[:, t] = alpha[:, t - 1] + stay[:, t - 1]
        for u in range(1, width):
            longer = alpha[:, t, u - 1] + emit[:, t, u - 1]
            alpha[:, t, u] = np.logaddexp(alpha[:, t, u], longer)
    for t in reversed(range(time_)):
        for u in reversed(range(width)):
            stays = stay[:, t, u] + beta[:, t + 1, u]
            beta[:, t, u] = np.logaddexp(stays, emit[:, t, u] + beta[:, t, u + 1])
    total = beta[:, 0, 0][:, None, None]
    stays = np.exp(alpha + stay + beta[:, 1:, :-1] - total)
    emits = np.exp(alpha + emit + beta[:, :-1, 1:] - total)
    gradients = [np.zeros_like(x) for x in (frames, predictions, table, bias)]
    for t in range(time_):
        hidden, logits = logits_of(t)
        dlogits = np.exp(logits - norm[:, t, :, None]) * (stays + emits)[:, t, :, None]
        dlogits[..., 0] -= stays[:, t]
        dlogits[rows, columns, following] -= emits[:, t]
        inward = (dlogits @ table) * (1 - hidden**2)
        gradients[0][:, t] = inward.sum(1)
        gradients[1] += inward
        flat = dlogits.reshape(-1, len(bias))
        gradients[2] += flat.T @ hidden.reshape(len(flat), -1)
        gradients[3] += flat.sum(0)
    return [-total.mean(), *(g / batch for g in gradients)]


def largest_error(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference, relative to its tensor's largest absolute value."""
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def peak_bytes(name: str, shape: tuple[int, ...], dim: int) -> int | None:
    """What a step takes on account of its lattice; None where a process dies of it."""
    tiny = _peak_of_process(name, (1, 2, 1, shape[-1]), dim)
    found = _peak_of_process(name, shape, dim)
    return None if found is None or tiny is None else found - tiny


def _peak_of_process(name, shape, dim):
    # Memory that is freed goes back to the system at once, so that a peak is what was in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, "--memory-of", name, "--dim", str(dim), "--shape"]
    command.append(",".join(map(str, shape)))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 else None


def print_peak(name: str, shape: tuple[int, ...], dim: int) -> None:
    """Body of the measured process."""
    step = IMPLEMENTATIONS[name](*example(shape, dim))
    before = _status("VmRSS")
    step()  # compiles, which has a peak of its own
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh
    step()
    print(_status("VmHWM") - before)


def _status(name):
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith(name))


def free_bytes() -> int:
    """Memory that can be had without swapping."""
    rows = Path("/proc/meminfo").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("MemAvailable"))


def measure(shape, dim, rounds, names) -> list[dict[str, Any]]:
    """The rows of one shape."""
    given = example(shape, dim)
    expected = reference(*given)
    rows, steps = {}, {}
    for name in names:
        row = {"shape": list(shape), "implementation": name, "milliseconds": None}
        rows[name] = {**row, "peak_bytes": None, "max_error": None}
        # Logits, their logarithms and the gradient, and room for all else.
        if name != "fused" and 3.6 * logits_bytes(*shape) > free_bytes():
            rows[name]["note"] = "needs more memory than there is"
            continue
        rows[name]["peak_bytes"] = peak_bytes(name, shape, dim)
        steps[name] = IMPLEMENTATIONS[name](*given)
        rows[name]["max_error"] = largest_error(steps[name](), expected)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(rounds), desc=str(shape), disable=not sys.stderr.isatty()):
        for name, step in steps.items():
            if name == "warprnnt-numba" and times[name]:
                continue  # minutes a step
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    for name, milliseconds in times.items():
        rows[name]["milliseconds"] = round(statistics.median(milliseconds), 2)
    return list(rows.values())


def report(rows: list[dict[str, Any]]) -> None:
    """Prints the table."""
    shown = []
    for row in rows:
        ours = next(
            r for r in rows if r["shape"] == row["shape"] and r["implementation"] == "fused"
        )
        ratios = [
            f"{row[key] / ours[key]:.2f}" if row[key] else ""
            for key in ("milliseconds", "peak_bytes")
        ]
        shown.append(
            [
                str(tuple(row["shape"])),
                row["implementation"],
                row.get("note") or f"{row['milliseconds']:.1f}",
                ratios[0],
                f"{row['peak_bytes'] / 2**20:.1f}" if row["peak_bytes"] else "",
                ratios[1],
                f"{row['max_error']:.1e}" if row["max_error"] is not None else "",
            ]
        )
    heads = ["B, T, U, V", "implementation", "ms", "/ ours", "peak MiB", "/ ours", "error"]
    print_table([heads, *shown])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", action="append", help="B,T,U,V (may be given several times)")
    parser.add_argument("--dim", type=int, default=256, help="width of the joint network (256)")
    parser.add_argument("--rounds", type=int, default=9, help="(9)")
    parser.add_argument("--only", help="implementations, such as fused,plain (all there are)")
    parser.add_argument("--json", help="file for the rows")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    shapes = [tuple(map(int, s.split(","))) for s in args.shape or ()] or SHAPES
    if args.memory_of:
        print_peak(args.memory_of, shapes[0], args.dim)
        return
    names = args.only.split(",") if args.only else list(IMPLEMENTATIONS)
    if "warprnnt-numba" in names:
        try:
            import warprnnt_numba  # noqa: F401
        except ImportError as e:
            print(f"without warprnnt-numba: {e}", file=sys.stderr)
            names.remove("warprnnt-numba")
    rows = [row for shape in shapes for row in measure(shape, args.dim, args.rounds, names)]
    print(f"joint of width {args.dim}, Keras on {keras.backend.backend()}, {platform.machine()}")
    report(rows)
    if args.json:
        temporary = Path(args.json).with_suffix(".partial")
        temporary.write_text(json.dumps(rows, indent=1) + "\n")
        os.replace(temporary, args.json)


if __name__ == "__main__":
    main()
