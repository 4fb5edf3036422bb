"""The proof for static products: int8 in, int8 out, with ranges that training learned."""

import functools

import numpy as np
from keras import ops

from asr_qat.backend import compiled
from asr_qat.layers.dense import Dense
from asr_qat.quantization import static
from asr_qat.quantization.ranges import require_ranges
from asr_qat.quantization.spec import WeightSpec

from ..int_weights import storage_bits
from ..trained_weights import weight_spec
from .arithmetic import quantize, requantize, values_that_differ
from .kernels import Target, run_file
from .one_layer import Affine, quantize_file, static_file
from .parity_result import LayerParity, absent, bias_of, common, ulps
from .stored_layers import StoredWeights

PROVEN_ROWS = 8  # each needs a file of its own


@functools.cache
def _training_step(weight: WeightSpec):
    """What static layers compute with frozen ranges, compiled; anew for each shape only."""

    def step(x, kernel, bias, source, result):
        frozen = static.frozen(kernel, bias, weight, source, result)
        y = static.static_matmul(x, kernel, bias, weight, lambda _: source, lambda _: result)
        return frozen, y

    return compiled(step)


def trained(layer: Dense, x: np.ndarray):
    """What the layer's training step has with its ranges as they are, compiled as there.

    Returns:
        Scales and zero points of input and output; weight scales ``[out]`` and codes
        ``[in, out]``; bias codes ``[out]``; the layer's output, not activated.
    """
    ranges = (layer.product.input_range.value, layer.product.output_range.value)
    operands = (x, layer.served_kernel(), bias_of(layer), *(ops.copy(r) for r in ranges))
    step = _training_step(weight_spec(layer).served)
    frozen, y = step(*(ops.convert_to_tensor(value) for value in operands))
    source, result = (
        Affine(float(a.scale), int(a.zero_point)) for a in (frozen.input, frozen.output)
    )
    rest = (frozen.scale, frozen.codes, frozen.bias, y)
    return source, result, *(ops.convert_to_numpy(value) for value in rest)


def accumulators_that_differ(
    codes: np.ndarray, bits: int, x: np.ndarray, zero_point: int, expected: np.ndarray, target
) -> int:
    """Accumulators of the kernel that are not the expected ones, in some of the rows.

    With all scales 1 an accumulator is the output's code if it fits; so each expected value is
    taken off by the bias, and zeros must remain.

    Args:
        codes: int8 ``[out, in]``, of the weights.
        bits: of them.
        x: int64 ``[rows, in]``, the input's codes.
        zero_point: of the input's codes.
        expected: int64 ``[rows, out]``, without bias.
        target: the kernels.
    """
    differ, ones = 0, np.ones(len(codes), np.float32)
    here, there = Affine(1.0, zero_point), Affine(1.0, 0)
    for row in np.unique(np.linspace(0, len(x) - 1, min(PROVEN_ROWS, len(x))).astype(int)):
        values = (x[row : row + 1] - zero_point).astype(np.float32)
        bias = (-expected[row]).astype(np.int32)
        content = static_file(codes, ones, bias, bits, 1, here, there, dequantized=False)
        differ += int(np.sum(run_file(content, values, target) != 0))
    return differ


def check_static(layer: Dense, x: np.ndarray, stored: StoredWeights, target: Target) -> LayerParity:
    """Compares a static layer: see `layer_parity.check_layer`."""
    require_ranges([layer])
    bits = weight_spec(layer).bits
    held, fields = storage_bits(bits), common(layer, x, target, bits)
    engine = target.serving(held, x.shape[1])
    source, result, scale, codes, bias, y = trained(layer, x)
    found = stored.nearest(layer.path, codes.T, held)
    if found is None or found.scale is None or found.source is None or found.result is None:
        return absent(fields, codes.size)
    file_bias = np.zeros_like(bias) if found.bias is None else found.bias
    parameters = zip((*found.source, *found.result), (*source, *result), strict=True)
    given = (found.weight, found.scale, file_bias, bits, len(x), found.source, found.result)
    file_a = run_file(quantize_file(x.shape, found.source), x, target).astype(np.int64)
    file_codes = run_file(static_file(*given, dequantized=False), x, target)
    file_y = run_file(static_file(*given), x, target)
    a = quantize(x, source, target)
    accumulator = (a - source.zero_point) @ codes.astype(np.int64)
    output = requantize(accumulator + bias, scale, source, result, engine)
    return LayerParity(
        **fields,
        codes_differ=int(np.sum(found.weight.T != codes)),
        scales_differ=int(np.sum(found.scale != scale))
        + int(np.sum(file_bias != bias))
        + sum(f != t for f, t in parameters),
        row_codes_differ=int(np.sum(file_a != a)),
        accumulators_differ=accumulators_that_differ(
            found.weight, bits, a, source.zero_point, accumulator, target
        ),
        output_codes_differ=int(np.sum(file_codes != output)),
        outputs_differ=values_that_differ(file_y, output, result, target),
        keras_ulps=ulps(y, file_y, bias_of(layer)),
    )
