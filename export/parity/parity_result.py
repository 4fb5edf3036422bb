"""What the proof for one layer says."""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from asr_qat.layers.dense import Dense

from .kernels import Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerParity:
    """What was compared for one layer, on inputs that it really gets."""

    path: str
    recipe: str
    bits: int  # of a weight: 2, 4, 6, 8; 16 and 32 are floats
    shape: tuple[int, int]  # in, out
    target: str
    rows: int  # input rows that were compared
    codes_differ: int  # weights in the file that are not the training step's: codes or floats
    scales_differ: int  # scales, and where activations are static zero points and biases too
    row_codes_differ: int = 0  # int8 activation codes that go in
    accumulators_differ: int = 0
    output_codes_differ: int = 0  # int8 activation codes that come out
    outputs_differ: int = 0  # against the target's exact epilogue; float products: a tolerance
    keras_ulps: float = 0.0  # largest distance of Keras' output, in units of the last place
    float_error: float = 0.0  # float products: largest error over sum |x| |w|

    @property
    def bit_equal(self) -> bool:
        """Everything that is owed is identical (docs/numerics.md)."""
        return not any(
            (
                self.codes_differ,
                self.scales_differ,
                self.row_codes_differ,
                self.accumulators_differ,
                self.output_codes_differ,
                self.outputs_differ,
            )
        )


def common(layer: Dense, x: np.ndarray, target: Target, bits: int) -> dict[str, Any]:
    """The fields that say what was compared."""
    return {
        "path": layer.path,
        "recipe": layer.recipe_name,
        "bits": bits,
        "shape": (int(layer.kernel.shape[0]), int(layer.kernel.shape[1])),
        "target": target.value,
        "rows": len(x),
    }


def absent(fields: dict[str, Any], size: int) -> LayerParity:
    """The result for a layer whose weight is not in the file: everything differs."""
    return LayerParity(
        **fields,
        codes_differ=size,
        scales_differ=fields["shape"][1],
        accumulators_differ=fields["rows"] * fields["shape"][1],
        outputs_differ=fields["rows"] * fields["shape"][1],
        keras_ulps=float("inf"),
    )


def bias_of(layer: Dense) -> np.ndarray:
    """The layer's bias, or zeros."""
    if not layer.use_bias:
        return np.zeros(layer.units, np.float32)
    return ops.convert_to_numpy(layer.bias)


def ulps(keras: np.ndarray, file: np.ndarray, bias: np.ndarray) -> float:
    """Largest distance in units of the last place of the larger of output and bias."""
    largest = np.maximum(np.abs(file), np.abs(bias))
    ulp = np.spacing(np.maximum(largest, np.finfo(np.float32).tiny)).astype(np.float64)
    return float(np.max(np.abs(keras.astype(np.float64) - file) / ulp, initial=0.0))
