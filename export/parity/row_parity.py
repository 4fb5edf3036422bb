"""The proof for dynamic products: rows are quantized one by one while the kernel runs."""

import functools
from typing import Any

import numpy as np
from keras import ops

from asr_qat.backend import compiled
from asr_qat.layers.dense import Dense
from asr_qat.quantization import integers
from asr_qat.quantization.quantizers import make_product
from asr_qat.quantization.spec import QuantSpec

from ..int_weights import storage_bits
from ..trained_weights import integer_weight, weight_spec
from .arithmetic import builtin_asymmetric_rows, epilogue, outputs_that_differ
from .kernels import Target, run_file
from .one_layer import layer_file
from .parity_result import LayerParity, absent, bias_of, common, ulps
from .stored_layers import StoredWeights


def accumulators(
    codes: np.ndarray,
    bits: int,
    x: np.ndarray,
    row_scale: np.ndarray,
    target: Target,
    asymmetric: bool = False,
) -> np.ndarray:
    """The int32 accumulators that the kernel computes for these weights and rows.

    With every weight scale 1 and no bias the kernel returns accumulator x row scale, rounded
    once; an accumulator below 2^24 is the nearest integer of that over the row scale.

    Args:
        codes: int8 ``[out, in]``.
        bits: of the codes.
        x: float32 ``[rows, in]``.
        row_scale: float32 ``[rows, 1]``, of the quantized rows.
        target: the kernels.
        asymmetric: the operator's ``asymmetric_quantize_inputs``.
    """
    channels = len(codes)
    ones, nothing = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    y = run_file(layer_file(codes, ones, nothing, bits, len(x), asymmetric), x, target)
    return np.rint(y.astype(np.float64) / row_scale.astype(np.float64)).astype(np.int64)


def row_codes(
    bits: int, x: np.ndarray, row_scale: np.ndarray, target: Target, asymmetric: bool = False
) -> np.ndarray:
    """The rows' codes less zero point, as the kernel quantizes them: an identity's accumulators."""
    identity = np.eye(x.shape[1], dtype=np.int8)
    return accumulators(identity, bits, x, row_scale, target, asymmetric)


@functools.cache
def _training_step(spec: QuantSpec, quantize_rows):
    """What layers of a recipe compute on the way, compiled; anew for each shape only."""
    product: Any = make_product(spec)

    def step(x, kernel, bias):
        scale = integers.weight_scale(kernel, product.weight)
        codes = integers.weight_codes(kernel, scale, product.weight)
        rows = quantize_rows(x)
        shifted = ops.cast(rows.codes, "int32")
        if rows.zero_point is not None:
            shifted = shifted - rows.zero_point
        accumulator = integers.accumulate(rows, codes)
        return scale, codes, rows.scale, shifted, accumulator, product(x, kernel, bias)

    return compiled(step)


def trained(layer: Dense, x: np.ndarray, quantize_rows) -> tuple[np.ndarray, ...]:
    """What the layer's training step computes on the way, compiled as there.

    Args:
        layer: with integer weights.
        x: float32 ``[rows, in]``.
        quantize_rows: the engine's formula, which is the layer's own where it was trained for it.

    Returns:
        Weight scales ``[out]`` and codes ``[in, out]``; row scales ``[rows, 1]`` and codes less
        zero point ``[rows, in]``; accumulators ``[rows, out]``; the layer's output, not activated.
    """
    operands = (x, layer.served_kernel(), bias_of(layer))
    step = _training_step(layer.spec.served, quantize_rows)
    values = step(*(ops.convert_to_tensor(value) for value in operands))
    return tuple(ops.convert_to_numpy(value) for value in values)


def check_rows(layer: Dense, x: np.ndarray, stored: StoredWeights, target: Target) -> LayerParity:
    """Compares a dynamic layer: see `layer_parity.check_layer`."""
    bits, inputs = weight_spec(layer).bits, x.shape[1]
    held = storage_bits(bits)
    fields, engine = common(layer, x, target, bits), target.serving(held, inputs)
    weight = integer_weight(layer).codes.T
    found = stored.nearest(layer.path, weight, held)
    if found is None or found.scale is None:
        return absent(fields, weight.size)
    zero_point = target.asymmetric(held, weight.shape, found.asymmetric)
    formula = integers.asymmetric_rows if zero_point else integers.symmetric_rows
    scale, codes, row_scale, shifted, accumulator, y = trained(layer, x, formula)
    if zero_point and not engine.is_xnnpack:
        shifted, row_scale = builtin_asymmetric_rows(x)
        accumulator = shifted @ codes.astype(np.int64)
    bias = bias_of(layer)
    probe = (bits, x, row_scale, target, found.asymmetric)
    content = layer_file(found.weight, found.scale, bias, bits, len(x), found.asymmetric)
    file_y = run_file(content, x, target)
    exact = epilogue(accumulator, row_scale, scale, bias, engine)
    return LayerParity(
        **fields,
        codes_differ=int(np.sum(found.weight.T != codes)),
        scales_differ=int(np.sum(found.scale != scale)),
        row_codes_differ=int(np.sum(row_codes(*probe) != shifted)),
        accumulators_differ=int(np.sum(accumulators(found.weight, *probe) != accumulator)),
        outputs_differ=outputs_that_differ(file_y, exact, row_scale * scale, engine),
        keras_ulps=ulps(y, file_y, bias),
    )
