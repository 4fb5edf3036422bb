"""The encoder as a whole, Keras against the file: how far apart, how many codes flip.

Float operations between quantized layers differ in their last bits between Keras and XNNPACK, so
now and then a value on a rounding edge falls on the other side. This counts such codes.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import ops

from asr_qat.layers.dense import Dense
from asr_qat.models.transducer import Transducer
from asr_qat.quantization.quantizers import IntegerProduct

from .flatbuffer import buffer_bytes, read_model, text, write_model
from .int_weights import IntegerWeight, pack_codes
from .one_layer import Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderParity:
    """Keras against the file over some audio, chunk by chunk, both with their own states."""

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

    def __call__(self, x, kernel):
        self.rows.append(ops.convert_to_numpy(x))
        return self.product(x, kernel)


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


def with_probes(content: bytes, weights: Sequence[IntegerWeight]) -> tuple[bytes, dict[str, str]]:
    """The file with the input of every quantized layer as a further output of the encoder.

    Returns:
        The bytes, and the output's name for each layer path that was found.
    """
    model = read_model(content)
    signature = next(s for s in model.signatureDefs if text(s.signatureKey) == "encoder")
    graph = model.subgraphs[signature.subgraphIndex]
    packed = {pack_codes(np.ascontiguousarray(w.codes.T), w.bits).tobytes(): w for w in weights}
    names: dict[str, str] = {}
    outputs = list(graph.outputs)
    for op in graph.operators:
        if len(op.inputs) < 2:
            continue
        buffer = model.buffers[graph.tensors[op.inputs[1]].buffer]
        weight = packed.get(buffer_bytes(buffer).tobytes())
        if weight is None:
            continue
        name = f"probe_{len(names)}"
        probe = schema.TensorMapT()
        probe.name, probe.tensorIndex = name, op.inputs[0]
        signature.outputs.append(probe)
        if op.inputs[0] not in outputs:
            outputs.append(op.inputs[0])
        names[weight.path] = name
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
    weights: Sequence[IntegerWeight],
    content: bytes,
    chunks: Sequence[np.ndarray],
) -> tuple[EncoderParity, dict[str, np.ndarray]]:
    """Runs both over the chunks.

    Returns:
        The comparison, and the rows that each quantized layer got in Keras, by path.
    """
    probed, probes = with_probes(content, weights)
    with recorded(layers) as kept:
        ours = encode_in_keras(model, chunks)
    # A file is run one way; layers for the built-in kernels ask for those.
    targets = {Target.here(layer.spec.activation) for layer in layers}
    target = Target.BUILTIN if targets == {Target.BUILTIN} else Target.here("float")
    theirs, seen = encode_in_file(probed, chunks, probes, target)
    flipped = total = 0
    for layer in layers:
        if not isinstance(layer.product, IntegerProduct) or layer.path not in seen:
            continue
        pairs = zip(kept[layer.path], seen[layer.path], strict=True)
        for a, b in pairs:
            code_a, code_b = (_shifted(layer, rows) for rows in (a, b))
            flipped += int(np.sum(code_a != code_b))
            total += code_a.size
    parity = EncoderParity(
        chunks=len(chunks),
        max_difference=max(float(np.max(np.abs(a - b))) for a, b in zip(ours, theirs, strict=True)),
        max_output=max(float(np.max(np.abs(a))) for a in ours),
        codes_flipped=flipped,
        codes_total=total,
    )
    return parity, {path: np.concatenate(rows) for path, rows in kept.items() if rows}


def _shifted(layer, x):
    rows = layer.product.quantize_rows(ops.convert_to_tensor(x))
    codes = ops.convert_to_numpy(rows.codes).astype(np.int32)
    return codes if rows.zero_point is None else codes - ops.convert_to_numpy(rows.zero_point)
