"""The encoder as a whole, Keras against the file: how far apart, how many codes flip.

Float operations between quantized layers differ in their last bits between Keras and XNNPACK, so
now and then a value on a rounding edge falls on the other side. This counts such codes.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import ops

from asr_qat.layers.dense import Dense
from asr_qat.models.transducer import Transducer
from asr_qat.quantization.quantizers import FourBitProduct, IntegerProduct, StaticProduct
from asr_qat.quantization.static import affine, quantize

from ..flatbuffer import indices, layer_of, operator_name, read_model, text, write_model
from ..four_bit import SENTINELS
from .kernels import Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderParity:
    """Keras against the file over some audio, chunk by chunk, both with their own states."""

    target: str
    chunks: int
    max_difference: float  # largest absolute difference of an encoder output
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


def encode_in_keras(model: Transducer, chunks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Encoder outputs of consecutive chunks ``[samples]``, step by step, not compiled."""
    frontend, encoder = model.frontend.initial_state(1), model.encoder.initial_state(1)
    outputs = []
    for chunk in chunks:
        features, frontend = model.frontend.step(ops.convert_to_tensor(chunk[None]), frontend)
        encoded, encoder = model.encoder.step(features, encoder)
        outputs.append(ops.convert_to_numpy(encoded))
    return outputs


def decode_in_keras(model: Transducer, encoded: np.ndarray) -> None:
    """Runs prediction network and joint on frames ``[time, dim]``, each with a random label."""
    labels = np.random.default_rng(0).integers(0, model.vocabulary_size, len(encoded))
    state = model.prediction.initial_state(1)
    for frame, label in zip(encoded, labels.astype(np.int32), strict=True):
        predicted, state = model.prediction.step(ops.convert_to_tensor(label[None]), state)
        model.joint.step(ops.convert_to_tensor(frame[None]), predicted, model.prediction.table)


def with_probes(content: bytes, layers: Sequence[Dense]) -> tuple[bytes, dict[str, str]]:
    """The file with what FULLY_CONNECTED reads in each layer as a further output of the encoder.

    Returns:
        The bytes, and the output's name for each layer path that was found.
    """
    model = read_model(content)
    signature = next(s for s in model.signatureDefs if text(s.signatureKey) == "encoder")
    graph = model.subgraphs[signature.subgraphIndex]
    wanted = {layer.path for layer in layers}
    names: dict[str, str] = {}
    outputs = indices(graph.outputs)
    for op in graph.operators:
        if operator_name(model.operatorCodes[op.opcodeIndex]) != "FULLY_CONNECTED":
            continue
        source, weight = indices(op.inputs)[:2]
        path = layer_of(graph.tensors[weight])
        if path not in wanted:
            continue
        name = f"probe_{len(names)}"
        probe = schema.TensorMapT()
        probe.name, probe.tensorIndex = name, source
        signature.outputs.append(probe)
        if source not in outputs:
            outputs.append(source)
        names[path] = name
    graph.outputs = np.array(outputs, np.int32)
    return write_model(model), names


def encode_in_file(
    content: bytes, chunks: Sequence[np.ndarray], probes: dict[str, str], target: Target
) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Encoder outputs and probed rows of consecutive chunks, by the file on the target."""
    interpreter = target.interpreter(content)
    run = {name: interpreter.get_signature_runner(name) for name in ("frontend", "encoder")}
    states: dict[str, dict[str, Any]] = {}
    for name, argument in (("frontend", "samples"), ("encoder", "features")):
        details = run[name].get_input_details()
        states[name] = {
            key: np.zeros(d["shape"], d["dtype"]) for key, d in details.items() if key != argument
        }
    outputs: list[np.ndarray] = []
    rows: dict[str, list[np.ndarray]] = {path: [] for path in probes}
    for chunk in chunks:
        front = run["frontend"](samples=chunk[None], **states["frontend"])
        states["frontend"] = {key: front[f"next_{key}"] for key in states["frontend"]}
        coded = run["encoder"](features=front["features"], **states["encoder"])
        states["encoder"] = {key: coded[f"next_{key}"] for key in states["encoder"]}
        outputs.append(coded["encoded"])
        for path, name in probes.items():
            rows[path].append(coded[name].reshape(-1, coded[name].shape[-1]))
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
    probed, probes = with_probes(content, layers)
    with recorded(layers) as kept:
        ours = encode_in_keras(model, chunks)
        decode_in_keras(model, np.concatenate(ours, axis=1)[0])
    return tuple(
        _compare(layers, ours, kept, *encode_in_file(probed, chunks, probes, target), target)
        for target in targets
    ), {path: np.concatenate(rows) for path, rows in kept.items() if rows}


def _compare(layers, ours, kept, theirs, seen, target):
    flipped = total = 0
    for layer in layers:
        coded = CODES.get(type(layer.product))
        if coded is None or layer.path not in seen:
            continue
        for rows, read in zip(kept[layer.path], seen[layer.path], strict=True):
            a, b = coded(layer.product, rows, read)
            flipped += int(np.sum(a != b))
            total += a.size
    return EncoderParity(
        target=target.value,
        chunks=len(ours),
        max_difference=max(float(np.max(np.abs(a - b))) for a, b in zip(ours, theirs, strict=True)),
        max_output=max(float(np.max(np.abs(a))) for a in ours),
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
