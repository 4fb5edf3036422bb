"""The integers of a layer's weights, from the functions that its training step runs."""

from typing import Any

import numpy as np
from keras import ops

from asr_qat.quantization import integers

from .flatbuffer import ExportError
from .int_weights import IntegerWeight


def weight_spec(layer: Any):
    """How a quantized layer's weights are; `ValueError` for a float layer."""
    if layer.spec.weight is None:
        raise ValueError(f"{layer.path}: has float weights, expected a quantized layer")
    return layer.spec.weight


def integer_weight(layer: Any) -> IntegerWeight:
    """A layer's codes and scales, computed by the functions that its training step runs.

    Raises:
      ExportError: the weights are not finite.
    """
    spec = weight_spec(layer)
    kernel = layer.served_kernel()
    if not np.isfinite(ops.convert_to_numpy(kernel)).all():
        raise ExportError(f"{layer.path}: the weights are not finite; expected finite weights")
    scale = integers.weight_scale(kernel, spec)
    codes = integers.weight_codes(kernel, scale, spec)
    return IntegerWeight(
        path=layer.path,
        codes=np.asarray(ops.convert_to_numpy(codes)),
        scale=np.asarray(ops.convert_to_numpy(scale)),
        bits=spec.bits,
    )
