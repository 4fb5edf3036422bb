"""The proof for rows of 4-bit codes, which float operators of the file make."""

import numpy as np

from asr_qat.layers.dense import Dense
from asr_qat.quantization.integers import four_bit_rows

from ..four_bit import SENTINELS
from ..trained_weights import weight_spec
from .arithmetic import outputs_that_differ
from .kernels import Target, run_file
from .one_layer import four_bit_file
from .parity_result import LayerParity, absent, bias_of, common, ulps
from .row_parity import trained
from .stored_layers import StoredWeights


def code_scale(target: Target, shape: tuple[int, int], asymmetric: bool) -> np.float32:
    """What the kernel makes of one step of a code: 1, or 128/127 where it has no zero point.

    Args:
        target: the engine.
        shape: of the stored weight, ``[out, in]``, sentinels included.
        asymmetric: the operator's ``asymmetric_quantize_inputs``.
    """
    if target.asymmetric(4, shape, asymmetric):
        return np.float32(1)
    return np.max(np.abs(SENTINELS)) / np.float32(127)


def check_four_bit(
    layer: Dense, x: np.ndarray, stored: StoredWeights, target: Target
) -> LayerParity:
    """Compares a layer of 4-bit rows: see `layer_parity.check_layer`."""
    bits = weight_spec(layer).bits
    fields = common(layer, x, target, bits)
    scale, codes, row_scale, shifted, accumulator, y = trained(layer, x, four_bit_rows)
    wide = np.pad(codes.T, ((0, 0), (0, len(SENTINELS))))
    found = stored.nearest(layer.path, wide, bits)
    if found is None or found.scale is None:
        return absent(fields, codes.size)
    asymmetric, rows, bias = found.asymmetric, len(x), bias_of(layer)
    engine = target.serving(bits, wide.shape[1])
    step = code_scale(target, wide.shape, asymmetric)

    def products(weight):
        ones, shape = np.ones(len(weight), np.float32), (len(weight), wide.shape[1])
        result = run_file(four_bit_file(weight, ones, None, rows, asymmetric), x, target)
        return np.rint(result / code_scale(target, shape, asymmetric)).astype(np.int64)

    kept = np.ascontiguousarray(found.weight[:, : -len(SENTINELS)])
    file_y = run_file(four_bit_file(kept, found.scale, bias, rows, asymmetric), x, target)
    exact = ((accumulator.astype(np.float32) * step) * scale) * row_scale + bias
    identity = np.eye(x.shape[1], dtype=np.int8)
    return LayerParity(
        **fields,
        codes_differ=int(np.sum(found.weight != wide)),
        scales_differ=int(np.sum(found.scale != scale)),
        row_codes_differ=int(np.sum(products(identity) != shifted)),
        accumulators_differ=int(np.sum(products(kept) != accumulator)),
        outputs_differ=outputs_that_differ(file_y, exact, row_scale * scale, engine),
        keras_ulps=ulps(y, file_y, bias),
    )
