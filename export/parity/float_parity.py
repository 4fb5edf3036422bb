"""The proof for float products: the stored weights are the trained ones, the rest is rounding."""

import functools

import numpy as np
from keras import ops

from asr_qat.backend import compiled
from asr_qat.layers.dense import Dense
from asr_qat.quantization import integers, matmul
from asr_qat.quantization.quantizers import make_product
from asr_qat.quantization.spec import QuantSpec

from ..int_weights import storage_bits
from .kernels import Target, run_file
from .one_layer import float_file
from .parity_result import LayerParity, absent, bias_of, common, ulps
from .stored_layers import StoredWeights

# Of sum |x| |w| + |bias|: 64 roundings of float32, all the same way. Sums run in any order.
TOLERANCE = 2.0**-18


def stored_weight(kernel, spec: QuantSpec):
    """What the file stores of a kernel ``[in, out]``: codes and scales, or values and 1s."""
    if spec.weight is not None:
        scale = integers.weight_scale(kernel, spec.weight)
        return integers.weight_codes(kernel, scale, spec.weight), scale
    values = matmul.float16_kernel(kernel) if spec.storage == "float16" else kernel
    return values, ops.ones((kernel.shape[1],))


@functools.cache
def _training_step(spec: QuantSpec):
    """Weights as stored and the product, compiled; anew for each shape only."""
    product = make_product(spec)

    def step(x, kernel, bias):
        return *stored_weight(kernel, spec), product(x, kernel, bias)

    return compiled(step)


def check_float(layer: Dense, x: np.ndarray, stored: StoredWeights, target: Target) -> LayerParity:
    """Compares a layer whose activations stay float: see `layer_parity.check_layer`.

    Weights are compared for identity, outputs with the exact sum of products.
    """
    spec, bias = layer.spec, bias_of(layer)
    dtype = np.dtype(np.int8 if spec.weight else spec.storage)
    bits = spec.weight.bits if spec.weight else 8 * dtype.itemsize
    held = storage_bits(bits) if spec.weight else bits
    fields = common(layer, x, target, bits)
    operands = (x, layer.served_kernel(), bias)
    values, scale, y = (
        ops.convert_to_numpy(value)
        for value in _training_step(spec.served)(*(ops.convert_to_tensor(v) for v in operands))
    )
    values = values.astype(dtype)
    found = stored.nearest(layer.path, values.T, held)
    if found is None and held == 32:  # a file may store float16 numbers as such (`half`)
        found = stored.nearest(layer.path, values.T.astype(np.float16), 16)
    if found is None:
        return absent(fields, values.size)
    content = float_file(found.weight, found.scale, bias, bits, len(x))
    file_y = run_file(content, x, target)
    on_grid = values.astype(np.float64) * scale
    terms = np.abs(x).astype(np.float64) @ np.abs(on_grid) + np.abs(bias)
    terms = np.maximum(terms, np.finfo(np.float32).tiny)
    exact = x.astype(np.float64) @ on_grid + bias
    errors = [np.abs(result - exact) / terms for result in (file_y, y)]
    file_scale = np.ones_like(scale) if found.scale is None else found.scale
    return LayerParity(
        **fields,
        codes_differ=int(np.sum(found.weight.T != values)),
        scales_differ=int(np.sum(file_scale != scale)),
        outputs_differ=int(np.sum(np.maximum(*errors) > TOLERANCE)),
        keras_ulps=ulps(y, file_y, bias),
        float_error=float(np.max(errors[0], initial=0.0)),
    )
