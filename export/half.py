"""Float16 storage of what stays float.

A constant of float16 numbers loses nothing when it is stored as such; XNNPACK unpacks it once,
when it loads the file. So the model's float weights are rounded first, and the proof is of the
rounded ones.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import ops

from asr_qat.quantization.matmul import LARGEST_FLOAT16

from .flatbuffer import buffer_bytes, has_data, indices
from .graph import Buffers, Graph

SMALLEST = 512  # values; below, the operator that unpacks them takes more bytes than are saved


@contextlib.contextmanager
def rounded_to_float16(variables: Iterable[Any]) -> Iterator[None]:
    """Within it, the variables hold float16 numbers (as float32)."""
    variables = list(variables)
    before = [ops.convert_to_numpy(variable) for variable in variables]
    try:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(as_float16(value).astype(np.float32))
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def as_float16(values: np.ndarray) -> np.ndarray:
    """The nearest float16 numbers; what is too large becomes the largest."""
    return np.clip(values, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)


def store_halves(model: schema.ModelT) -> None:
    """Stores the float32 constants of float16 numbers as FLOAT16, with DEQUANTIZE before use."""
    buffers = Buffers(model)
    for index, subgraph in enumerate(model.subgraphs):
        graph = Graph(model, index, buffers)
        # XNNPACK refuses products whose bias it would have to unpack.
        biases = {i for op in graph.graph.operators for i in indices(op.inputs)[2:3]}
        read = {i for op in graph.graph.operators for i in indices(op.inputs)}
        for number, tensor in enumerate(list(subgraph.tensors)):
            buffer = model.buffers[tensor.buffer]
            if tensor.type != schema.TensorType.FLOAT32 or not has_data(buffer):
                continue
            if number in biases or number not in read:
                continue
            values = buffer_bytes(buffer).view(np.float32)
            half = as_float16(values)
            if values.size < SMALLEST or not np.array_equal(half.astype(np.float32), values):
                continue
            stored = graph.before_dequantize(number, schema.TensorType.FLOAT16, version=3)
            graph.store(stored, f"half {tensor.buffer}", half)
            tensor.buffer = 0
