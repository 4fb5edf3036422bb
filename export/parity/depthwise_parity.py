"""The proof for a depthwise layer: the file stores what its recipe says."""

from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import ops

from asr_qat.layers.convolution import CausalDepthwiseConvolution

from ..flatbuffer import buffer_bytes, indices, layer_of, operator_name, read_model
from ..half import as_float16
from ..int_weights import TENSOR_TYPES, unpack_codes
from ..trained_weights import integer_weight
from .kernels import Target
from .parity_result import LayerParity


def check_depthwise(
    layer: CausalDepthwiseConvolution, content: bytes, target: Target
) -> LayerParity:
    """Compares the kernel ``[taps, channels]`` with what the file's operators read.

    The product itself is one of floats, for which no order of summation is owed: no rows are
    compared here.

    Args:
        layer: of the Keras model.
        content: of the file.
        target: for the report.
    """
    found = _stored(content, layer.path)
    if layer.spec.weight is None:
        kernel = ops.convert_to_numpy(layer.kernel)
        half = layer.spec.storage == "float16"
        wanted = as_float16(kernel).astype(np.float32) if half else kernel
        bits, scale = (16 if half else 32), None
    else:
        weight = integer_weight(layer)
        wanted, scale, bits = weight.codes, weight.scale, weight.bits
    alike = [entry for entry in found if entry.dtype == wanted.dtype]
    differ = [int(np.sum(entry.values != wanted.reshape(-1))) for entry in alike]
    scales = [0 if scale is None else int(np.sum(entry.scale != scale)) for entry in alike]
    complete = len(alike) == len(found) > 0
    return LayerParity(
        path=layer.path,
        recipe=layer.recipe_name,
        bits=bits,
        shape=(int(wanted.shape[0]), int(wanted.shape[1])),
        target=target.value,
        rows=0,
        codes_differ=max(differ) if complete else wanted.size,
        scales_differ=max(scales) if complete else wanted.shape[1],
    )


class _Kernel(NamedTuple):
    values: np.ndarray  # flat: float32, or int8 codes
    scale: np.ndarray | None

    @property
    def dtype(self):
        return self.values.dtype


def _stored(content, path):
    """The layer's kernels that DEPTHWISE_CONV_2D reads."""
    model = read_model(content)
    found = []
    for graph in model.subgraphs:
        named = [(operator_name(model.operatorCodes[op.opcodeIndex]), op) for op in graph.operators]
        makers = {
            indices(op.outputs)[0]: indices(op.inputs)[0]
            for name, op in named
            if name == "DEQUANTIZE"
        }
        for name, op in named:
            weight = indices(op.inputs)[1] if name == "DEPTHWISE_CONV_2D" else -1
            tensor = graph.tensors[makers.get(weight, weight)]
            if weight >= 0 and layer_of(tensor) == path:
                found.append(_kernel(tensor, model.buffers[tensor.buffer]))
    return found


def _kernel(tensor, buffer):
    data = buffer_bytes(buffer)
    floats = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
    if tensor.type in floats:
        return _Kernel(data.view(floats[tensor.type]).astype(np.float32), None)
    bits = next(bits for bits, kind in TENSOR_TYPES.items() if kind == tensor.type)
    codes = unpack_codes(data, bits, indices(tensor.shape)).reshape(-1)
    return _Kernel(codes, np.asarray(tensor.quantization.scale, np.float32))
