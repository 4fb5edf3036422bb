"""The proof for one layer: the file's numbers are the training step's, on any engine."""

from collections.abc import Callable

import numpy as np

from asr_qat.layers.dense import Dense
from asr_qat.quantization.quantizers import (
    Float16Product,
    FloatProduct,
    FourBitProduct,
    IntegerProduct,
    StaticProduct,
    WeightOnlyProduct,
)

from ..flatbuffer import ExportError
from .float_parity import check_float
from .four_bit_parity import check_four_bit
from .kernels import Target
from .parity_result import LayerParity
from .row_parity import check_rows
from .static_parity import check_static
from .stored_layers import StoredProduct, StoredWeights

__all__ = ["LayerParity", "StoredProduct", "StoredWeights", "Target", "check_layer"]

Check = Callable[[Dense, np.ndarray, StoredWeights, Target], LayerParity]

CHECKS: dict[type, Check] = {
    FloatProduct: check_float,
    Float16Product: check_float,
    WeightOnlyProduct: check_float,
    IntegerProduct: check_rows,
    FourBitProduct: check_four_bit,
    StaticProduct: check_static,
}


def check_layer(
    layer: Dense, x: np.ndarray, stored: StoredWeights, target: Target | None = None
) -> LayerParity:
    """Compares a layer with what the file's operators do on the same rows.

    Args:
        layer: of the Keras model.
        x: float32 ``[rows, in]``, inputs that the layer really gets.
        stored: the weights in the file.
        target: the engine; by default the one that serves the layer's recipe on this machine.

    Raises:
        ExportError: for a product of another kind.
        RangeError: a static layer's ranges have never been observed.
    """
    kind = type(layer.product)
    if kind not in CHECKS:
        raise ExportError(
            f"{layer.path}: no check for a {kind.__name__}; expected one of "
            + ", ".join(known.__name__ for known in CHECKS)
        )
    if target is None:
        bits = layer.spec.weight.bits if layer.spec.weight else 32
        target = Target.here(layer.spec.activation, bits)
    return CHECKS[kind](layer, np.ascontiguousarray(x, np.float32), stored, target)
