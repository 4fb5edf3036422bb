"""The float twin: the same model in float, its weights standing on the integer grid.

TFLite's converter cannot take the integer graph, so it is given this model, whose float products
with dequantized weights have the structure of the quantized ones; `int_weights.rewrite` then puts
the integers back.
"""

import numpy as np
from keras import ops

from asr_qat.layers.dense import Dense
from asr_qat.models.transducer import Transducer
from asr_qat.quantization import integers
from asr_qat.quantization.spec import WeightSpec

from .int_weights import IntegerWeight


def quantized_layers(model: Transducer) -> list[Dense]:
    """The dense layers with integer weights, in order of their paths."""
    layers = [layer for layer in model.dense_layers() if layer.spec.weight is not None]
    return sorted(layers, key=lambda layer: layer.path)


def weight_spec(layer: Dense) -> WeightSpec:
    """How a quantized layer's weights are; `ValueError` for a float layer."""
    if layer.spec.weight is None:
        raise ValueError(f"{layer.path}: has float weights, expected a quantized layer")
    return layer.spec.weight


def integer_weight(layer: Dense) -> IntegerWeight:
    """A layer's codes and scales, computed by the function that its training step runs."""
    spec = weight_spec(layer)

    def quantize(kernel):
        scale = integers.weight_scale(kernel, spec)
        return scale, integers.weight_codes(kernel, scale, spec)

    kernel = ops.convert_to_tensor(layer.kernel)
    if not np.isfinite(ops.convert_to_numpy(kernel)).all():
        raise ValueError(f"{layer.path}: the weights are not finite; expected finite weights")
    scale, codes = (np.asarray(ops.convert_to_numpy(v)) for v in quantize(kernel))
    return IntegerWeight(
        path=layer.path,
        codes=codes,
        scale=scale,
        bits=spec.bits,
        dequantized=codes.astype(np.float32) * scale,
    )


def float_twin(model: Transducer) -> tuple[Transducer, list[IntegerWeight]]:
    """A float copy of the model on the integer grid, and the integers it stands for."""
    twin = model.with_precision(None)
    twin_layers = {layer.path: layer for layer in twin.dense_layers()}
    weights = [integer_weight(layer) for layer in quantized_layers(model)]
    for weight in weights:
        twin_layers[weight.path].kernel.assign(weight.dequantized)
    return twin, weights
