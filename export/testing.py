"""A complete recogniser in a few kilobytes, built without TensorFlow, for tests.

The four signatures of an exported file over a small random network: enough for every tool that
reads such files, made in milliseconds. Its transcripts mean nothing.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .compact import compact
from .flatbuffer import write_model
from .graph import per_channel
from .int_weights import TENSOR_TYPES, IntegerWeight, pack_codes, storage_bits
from .metadata import attach

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
}


class ModelBuilder:
    """Assembles a .tflite model op by op."""

    def __init__(self):
        """An empty model."""
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.subgraphs, self.model.operatorCodes = [], []
        self.model.signatureDefs, self.model.metadata = [], []

    def begin(self) -> None:
        """Starts the next subgraph; the calls below add to it."""
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs.append(self.graph)

    def tensor(self, shape, dtype: Any = np.float32, buffer: int = 0) -> int:
        """Adds a tensor and returns its index."""
        t = schema.TensorT()
        t.name = f"g{len(self.model.subgraphs) - 1}_t{len(self.graph.tensors)}".encode()
        t.shape, t.type, t.buffer = list(shape), _TYPES[np.dtype(dtype)], buffer
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def constant(self, value: np.ndarray) -> int:
        """Adds a constant tensor (with a buffer of its own) and returns its index."""
        buffer = schema.BufferT()
        buffer.data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        self.model.buffers.append(buffer)
        return self.tensor(value.shape, value.dtype, len(self.model.buffers) - 1)

    def op(self, name: str, inputs, shape, options: Any = None, version: int = 1) -> int:
        """Adds an operator with one float32 output of `shape` and returns the output's index."""
        code = getattr(schema.BuiltinOperator, name)
        known = [c.builtinCode for c in self.model.operatorCodes]
        if code not in known:
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.version = code, version
            entry.deprecatedBuiltinCode = min(code, 127)
            self.model.operatorCodes.append(entry)
            known.append(code)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs = known.index(code), list(inputs)
        op.outputs = [self.tensor(shape)]
        if options is not None:
            op.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            op.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self.graph.operators.append(op)
        return op.outputs[0]

    def integers(self, weight: IntegerWeight) -> int:
        """Adds a constant [out, in] of packed codes with a scale for each row; named by its path.

        The operator that reads it needs its version: `compact` sees to that.
        """
        codes = np.ascontiguousarray(weight.codes.T)
        index = self.constant(pack_codes(codes, weight.bits))
        t = self.graph.tensors[index]
        t.name, t.shape = weight.path.encode(), list(codes.shape)
        t.type = TENSOR_TYPES[storage_bits(weight.bits)]
        t.quantization = per_channel(np.ascontiguousarray(weight.scale))
        return index

    def dense(self, x: int, weight: np.ndarray | IntegerWeight, rows: int) -> int:
        """FULLY_CONNECTED of float32 [rows, in] with `weight` [in, out], float or integers."""
        kernel = weight.codes if isinstance(weight, IntegerWeight) else weight
        channels = kernel.shape[1]
        bias = self.constant(np.zeros(channels, np.float32))
        if isinstance(weight, IntegerWeight):
            w = self.integers(weight)
        else:
            w = self.constant(np.ascontiguousarray(weight.T))
        options = schema.FullyConnectedOptionsT()
        return self.op("FULLY_CONNECTED", [x, w, bias], [rows, channels], options)

    def reshape(self, x: int, shape) -> int:
        """RESHAPE to a constant shape."""
        target = self.constant(np.asarray(shape, np.int32))
        return self.op("RESHAPE", [x, target], shape)

    def end(self, name: str, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        """Closes the subgraph and names it as a signature."""
        self.graph.inputs, self.graph.outputs = list(inputs.values()), list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey = name.encode()
        signature.subgraphIndex = len(self.model.subgraphs) - 1
        signature.inputs, signature.outputs = [], []
        for target, group in ((signature.inputs, inputs), (signature.outputs, outputs)):
            for key, index in group.items():
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = key.encode(), index
                target.append(entry)
        self.model.signatureDefs.append(signature)


@dataclass(frozen=True)
class TinySizes:
    """Sizes of the tiny recogniser."""

    chunk_samples: int = 1280  # 80 ms at 16 kHz: 8 feature frames, 2 encoder frames
    hidden: int = 16  # encoder, prediction and joint width
    pieces: tuple[str, ...] = ("<blank>", "▁", "a", "b", "c", "d", "e")


def quantized(rng: np.random.Generator, shape, bits: int, path: str) -> IntegerWeight:
    """Random codes of a weight [in, out] with a scale for each output."""
    limit = (1 << (bits - 1)) - 1
    codes = rng.integers(-limit, limit + 1, shape).astype(np.int8)
    codes[0] = limit  # every channel uses its whole range, as a trained one does
    scale = rng.uniform(0.5, 2, shape[1]).astype(np.float32) / np.float32(limit * shape[0] ** 0.5)
    return IntegerWeight(path, codes, scale, bits)


def tiny_float_model(
    sizes: TinySizes = TinySizes(), bits: int = 4, seed: int = 0
) -> tuple[bytes, list[IntegerWeight]]:
    """A float .tflite with the four signatures, and the integers its encoder weights stand for."""
    rng = np.random.default_rng(seed)
    weights = _encoder_weights(rng, sizes, bits)
    return write_model(_tiny_model(rng, sizes, [w.dequantized for w in weights])), weights


def _encoder_weights(rng, sizes: TinySizes, bits: int) -> list[IntegerWeight]:
    hidden = sizes.hidden
    return [
        quantized(rng, (320, hidden), bits, "encoder/subsampling"),
        quantized(rng, (hidden, hidden), bits, "encoder/dense"),
    ]


def _tiny_model(rng, sizes: TinySizes, weights) -> schema.ModelT:
    hidden, labels = sizes.hidden, len(sizes.pieces)
    frames = sizes.chunk_samples // 160
    steps = frames // 4

    def normal(*shape):
        return (rng.normal(size=shape) / shape[0] ** 0.5).astype(np.float32)

    b = ModelBuilder()
    b.begin()
    samples, state = b.tensor([1, sizes.chunk_samples]), b.tensor([1, 160])
    rows = b.reshape(samples, [frames, 160])
    mixed = b.op("ADD", [rows, state], [frames, 160], schema.AddOptionsT())
    features = b.reshape(b.dense(mixed, 8 * normal(160, 80), frames), [1, frames, 80])
    last = [b.constant(np.array(v, np.int32)) for v in ([frames - 1, 0], [1, 160])]
    following = b.op("SLICE", [rows, *last], [1, 160], schema.SliceOptionsT())
    b.end(
        "frontend",
        {"samples": samples, "frontend_state": state},
        {"features": features, "next_frontend_state": following},
    )

    b.begin()
    features, state = b.tensor([1, frames, 80]), b.tensor([1, hidden])
    x = b.dense(b.reshape(features, [steps, 320]), weights[0], steps)
    x = b.op("TANH", [x], [steps, hidden])
    last = [b.constant(np.array(v, np.int32)) for v in ([steps - 1, 0], [1, hidden])]
    following = b.op("SLICE", [x, *last], [1, hidden], schema.SliceOptionsT())
    x = b.op("ADD", [x, state], [steps, hidden], schema.AddOptionsT())
    encoded = b.reshape(b.dense(x, weights[1], steps), [1, steps, hidden])
    b.end(
        "encoder",
        {"features": features, "encoder_state": state},
        {"encoded": encoded, "next_encoder_state": following},
    )

    b.begin()
    label, state = b.tensor([1], np.int32), b.tensor([1, hidden])
    x = b.op(
        "GATHER", [b.constant(normal(labels, hidden)), label], [1, hidden], schema.GatherOptionsT()
    )
    x = b.op(
        "ADD", [x, b.dense(state, normal(hidden, hidden), 1)], [1, hidden], schema.AddOptionsT()
    )
    following = b.op("TANH", [x], [1, hidden])
    predicted = b.reshape(following, [1, hidden])
    b.end(
        "prediction",
        {"label": label, "prediction_state": state},
        {"predicted": predicted, "next_prediction_state": following},
    )

    b.begin()
    encoded, predicted = b.tensor([1, hidden]), b.tensor([1, hidden])
    x = b.op(
        "ADD",
        [b.dense(encoded, normal(hidden, hidden), 1), predicted],
        [1, hidden],
        schema.AddOptionsT(),
    )
    logits = b.dense(b.op("TANH", [x], [1, hidden]), 2 * normal(hidden, labels), 1)
    b.end("joint", {"encoded": encoded, "predicted": predicted}, {"logits": logits})
    return b.model


def tiny_metadata(sizes: TinySizes = TinySizes()) -> dict[str, Any]:
    """The metadata that `asr-qat export` would write for the tiny recogniser."""
    return {
        "format": 1,
        "producer": "asr_qat test",
        "sample_rate": 16000,
        "chunk_samples": sizes.chunk_samples,
        "tail_samples": 5120,
        "max_symbols_per_frame": 3,
        "features": {},
        "vocabulary": {"kind": "characters", "pieces": list(sizes.pieces)},
        "recipe": {"rules": [], "layers": []},
        "training": {},
        "parity": None,
    }


def write_tiny_recognizer(
    path: str | os.PathLike[str], sizes: TinySizes = TinySizes(), bits: int = 4, seed: int = 0
) -> Path:
    """Writes a tiny recogniser with `bits`-wide encoder weights (32: float)."""
    rng = np.random.default_rng(seed)
    weights: Any = _encoder_weights(rng, sizes, 8 if bits == 32 else bits)
    if bits == 32:
        weights = [weight.dequantized for weight in weights]
    model = _tiny_model(rng, sizes, weights)
    if bits != 32:
        compact(model)
    Path(path).write_bytes(attach(write_model(model), tiny_metadata(sizes)))
    return Path(path)
