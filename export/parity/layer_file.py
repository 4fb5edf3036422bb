"""One Keras layer as a .tflite file of its own, stored as its recipe says."""

import numpy as np
from keras import ops

from asr_qat.layers.dense import Dense

from ..trained_weights import integer_weight
from .one_layer import float_file, four_bit_file, layer_file, static_file
from .parity_result import bias_of
from .static_parity import trained


def file_of(layer: Dense, rows: int, asymmetric: bool | None = None) -> bytes:
    """The bytes of a file that computes the layer's product, bias included, on so many rows.

    Args:
        layer: of any recipe.
        rows: of the input.
        asymmetric: the operator's ``asymmetric_quantize_inputs``; by default set but for recipes
            of symmetric rows.
    """
    bias, spec = bias_of(layer), layer.spec
    if spec.weight is None:
        values = ops.convert_to_numpy(layer.kernel).T.astype(spec.storage)
        return float_file(values, None, bias, 8 * values.itemsize, rows)
    bits = spec.weight.bits
    if spec.activation == "static_int8":
        nothing = np.zeros((1, layer.kernel.shape[0]), np.float32)
        source, result, scale, codes, offset, _ = trained(layer, nothing)
        return static_file(codes.T, scale, offset, bits, rows, source, result)
    weight = integer_weight(layer)
    codes, scale = weight.codes.T, weight.scale
    if spec.activation == "float":
        return float_file(codes, scale, bias, bits, rows)
    if asymmetric is None:
        asymmetric = spec.activation != "symmetric_rows"
    if spec.activation == "four_bit_rows":
        return four_bit_file(codes, scale, bias, rows, asymmetric)
    return layer_file(codes, scale, bias, bits, rows, asymmetric)
