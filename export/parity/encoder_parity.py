"""The encoders as a whole, Keras against the file: how far apart, how many codes flip.

Float operations between quantized layers differ in their last bits between Keras and XNNPACK, so
now and then a value on a rounding edge falls on the other side. This counts such codes.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import ops

from asr_qat.layers.dense import Dense
from asr_qat.models.ends import EndJointHead, EndpointerHead
from asr_qat.models.transducer import Transducer
from asr_qat.quantization.quantizers import FourBitProduct, IntegerProduct, StaticProduct
from asr_qat.quantization.static import affine, quantize

from ..flatbuffer import indices, layer_of, operator_name, read_model, text, write_model
from ..four_bit import SENTINELS
from .kernels import Target

CODED_ROWS = 4096  # rows whose codes are compared at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderParity:
    """Keras against the file over some audio, chunk by chunk, both with their own states."""

    target: str
    chunks: int
    max_difference: float  # largest absolute difference of an output of any stage
    max_output: float  # largest absolute output, for comparison
    codes_flipped: int  # activation codes that differ, over all quantized layers
    codes_total: int


class _Recorder:
    """Stands in for a layer's product and keeps the rows that pass through."""

    def __init__(self, product):
        self.product = product
        self.rows: list[np.ndarray] = []

    def __call__(self, x, kernel, bias=None, training=False):
        self.rows.append(ops.convert_to_numpy(x).reshape(-1, x.shape[-1]))
        return self.product(x, kernel, bias, training)


@contextlib.contextmanager
def recorded(layers: Sequence[Dense]) -> Iterator[dict[str, list[np.ndarray]]]:
    """Within it, the input rows of the layers are kept, by path; not inside compiled functions."""
    recorders = {layer.path: _Recorder(layer.product) for layer in layers}
    for layer in layers:
        layer.product = recorders[layer.path]
    try:
        yield {path: recorder.rows for path, recorder in recorders.items()}
    finally:
        for layer in layers:
            layer.product = recorders[layer.path].product


def encode_in_keras(model: Transducer, chunks: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Outputs of every stage over consecutive chunks ``[samples]``, step by step, not compiled."""
    frontend = model.frontend.initial_state(1)
    states = [stage.initial_state(1) for stage in model.stages]
    outputs = []
    for chunk in chunks:
        x, frontend = model.frontend.step(ops.convert_to_tensor(chunk[None]), frontend)
        encoded = []
        for i, stage in enumerate(model.stages):
            x, states[i] = stage.step(x, states[i])
            encoded.append(ops.convert_to_numpy(x))
        outputs.append(encoded)
    return outputs


def decode_in_keras(prediction: Any, joint: Any, encoded: np.ndarray) -> None:
    """Runs a decoder on frames ``[time, dim]``, each with a random label."""
    labels = np.random.default_rng(0).integers(0, prediction.vocabulary_size, len(encoded))
    state = prediction.initial_state(1)
    for frame, label in zip(encoded, labels.astype(np.int32), strict=True):
        predicted, state = prediction.step(ops.convert_to_tensor(label[None]), state)
        joint.step(ops.convert_to_tensor(frame[None]), predicted, prediction.table)


@singledispatch
def hear_in_keras(end: Any, encoded: Sequence[Sequence[np.ndarray]]) -> None:
    """Runs what hears an end of speech on the outputs of every stage, chunk after chunk."""
    raise ValueError(f"no rows for a {type(end).__name__}")


@hear_in_keras.register
def _(end: EndpointerHead, encoded: Sequence[Sequence[np.ndarray]]) -> None:
    state = end.layer.initial_state(1)
    for outputs in encoded:
        frames = ops.convert_to_tensor(outputs[len(end.stages) - 1])
        _, state = end.layer.step(frames, state)


@hear_in_keras.register
def _(end: EndJointHead, encoded: Sequence[Sequence[np.ndarray]]) -> None:
    frames = np.concatenate([outputs[len(end.read.stages) - 1] for outputs in encoded], axis=1)[0]
    decode_in_keras(end.read.prediction, end.layer, frames)


def with_probes(
    content: bytes, stages: Sequence[str], layers: Sequence[Dense]
) -> tuple[bytes, dict[str, list[tuple[str, str]]]]:
    """The file with what FULLY_CONNECTED reads in each layer as a further output of its encoder.

    Returns:
        The bytes, and signatures and outputs' names for each layer path that was found: several
        where a recurrent layer's product runs once for every frame of a chunk.
    """
    model = read_model(content)
    wanted = {layer.path for layer in layers}
    names: dict[str, list[tuple[str, str]]] = {}
    for signature in model.signatureDefs:
        if text(signature.signatureKey) in stages:
            _probe(model, signature, wanted, names)
    return write_model(model), names


def _probe(model, signature, wanted, names):
    graph = model.subgraphs[signature.subgraphIndex]
    outputs = indices(graph.outputs)
    for op in graph.operators:
        if operator_name(model.operatorCodes[op.opcodeIndex]) != "FULLY_CONNECTED":
            continue
        source, weight = indices(op.inputs)[:2]
        path = layer_of(graph.tensors[weight])
        if path not in wanted:
            continue
        name = f"probe_{len(signature.outputs)}"
        probe = schema.TensorMapT()
        probe.name, probe.tensorIndex = name, source
        signature.outputs.append(probe)
        if source not in outputs:
            outputs.append(source)
        names.setdefault(path, []).append((text(signature.signatureKey), name))
    graph.outputs = np.array(outputs, np.int32)


def encode_in_file(
    content: bytes,
    stages: Sequence[str],
    chunks: Sequence[np.ndarray],
    probes: dict[str, list[tuple[str, str]]],
    target: Target,
) -> tuple[list[list[np.ndarray]], dict[str, list[np.ndarray]]]:
    """Outputs of every stage and probed rows of consecutive chunks, by the file on the target."""
    interpreter = target.interpreter(content)
    parts = ("frontend", *stages)
    run = {name: interpreter.get_signature_runner(name) for name in parts}
    arguments = dict(zip(parts, ("samples", "features", *["encoded"] * len(stages)), strict=False))
    states = {
        name: {
            key: np.zeros(d["shape"], d["dtype"])
            for key, d in run[name].get_input_details().items()
            if key != arguments[name]
        }
        for name in parts
    }
    outputs: list[list[np.ndarray]] = []
    rows: dict[str, list[np.ndarray]] = {path: [] for path in probes}
    for chunk in chunks:
        x, encoded = chunk[None], []
        for name in parts:
            found = run[name](**{arguments[name]: x}, **states[name])
            states[name] = {key: found[f"next_{key}"] for key in states[name]}
            x = found["features" if name == "frontend" else "encoded"]
            encoded.append(x)
            for path, places in probes.items():
                for signature, probe in places:
                    if signature == name:
                        rows[path].append(found[probe].reshape(-1, found[probe].shape[-1]))
        outputs.append(encoded[1:])
    return outputs, rows


def compare_encoders(
    model: Transducer,
    layers: Sequence[Dense],
    content: bytes,
    chunks: Sequence[np.ndarray],
    targets: Sequence[Target],
) -> tuple[tuple[EncoderParity, ...], dict[str, np.ndarray]]:
    """Runs Keras, and the file on each target, over the chunks.

    Returns:
        A comparison for each target, and the rows that each layer got in Keras, by path.
    """
    stages = [stage.name for stage in model.stages]
    probed, probes = with_probes(content, stages, layers)
    with recorded(layers) as kept:
        ours = encode_in_keras(model, chunks)
        frames = np.concatenate([encoded[-1] for encoded in ours], axis=1)[0]
        for prediction, joint in zip(model.predictions, model.joints, strict=True):
            decode_in_keras(prediction, joint, frames)
        for end in model.ends:
            hear_in_keras(end, ours)
    return tuple(
        _compare(
            layers, ours, kept, *encode_in_file(probed, stages, chunks, probes, target), target
        )
        for target in targets
    ), {path: np.concatenate(rows) for path, rows in kept.items() if rows}


def _compare(layers, ours, kept, theirs, seen, target):
    pairs = [pair for a, b in zip(ours, theirs, strict=True) for pair in zip(a, b, strict=True)]
    flipped = total = 0
    for layer in layers:
        coded = CODES.get(type(layer.product))
        if coded is None or layer.path not in seen:
            continue
        rows, read = np.concatenate(kept[layer.path]), np.concatenate(seen[layer.path])
        for start in range(0, len(rows), CODED_ROWS):
            part = slice(start, start + CODED_ROWS)
            a, b = coded(layer.product, rows[part], read[part])
            flipped += int(np.sum(a != b))
            total += a.size
    return EncoderParity(
        target=target.value,
        chunks=len(ours),
        max_difference=max(float(np.max(np.abs(a - b))) for a, b in pairs),
        max_output=max(float(np.max(np.abs(a))) for a, _ in pairs),
        codes_flipped=flipped,
        codes_total=total,
    )


def _row_codes(product, x):
    rows = product.quantize_rows(ops.convert_to_tensor(x))
    codes = ops.convert_to_numpy(rows.codes).astype(np.int32)
    return codes if rows.zero_point is None else codes - ops.convert_to_numpy(rows.zero_point)


def _static_codes(product, x):
    source = affine(ops.convert_to_tensor(product.input_range.value))
    return ops.convert_to_numpy(quantize(ops.convert_to_tensor(x), source)[0]).astype(np.int32)


# For each kind of product the activation codes of Keras' rows, and of what FULLY_CONNECTED reads.
CODES: dict[type, Callable[[Any, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    IntegerProduct: lambda product, x, read: (_row_codes(product, x), _row_codes(product, read)),
    FourBitProduct: lambda product, x, read: (
        _row_codes(product, x),
        read[:, : -len(SENTINELS)].astype(np.int32),
    ),
    StaticProduct: lambda product, x, read: (_static_codes(product, x), read.astype(np.int32)),
}
