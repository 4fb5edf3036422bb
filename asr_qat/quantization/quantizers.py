"""The objects a layer holds: each computes one weight product at one precision."""

from collections.abc import Callable
from functools import partial

from keras import ops

from asr_qat.quantization import integers, matmul
from asr_qat.quantization.integers import Rows, Tensor
from asr_qat.quantization.spec import QuantSpec, WeightSpec


class FloatProduct:
    """``x @ kernel`` in float32."""

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        """float32 ``[rows, k]`` x ``[k, channels]`` -> ``[rows, channels]``."""
        return ops.matmul(x, kernel)


class WeightOnlyProduct:
    """Float rows times integer weights that are dequantized first."""

    def __init__(self, weight: WeightSpec):
        self.weight = weight

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        """float32 ``[rows, k]`` x ``[k, channels]`` -> ``[rows, channels]``."""
        return matmul.weight_only_matmul(x, kernel, self.weight)


class IntegerProduct:
    """Integer rows times integer weights, int32 accumulation."""

    def __init__(self, weight: WeightSpec, quantize_rows: Callable[[Tensor], Rows]):
        self.weight = weight
        self.quantize_rows = quantize_rows

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        """float32 ``[rows, k]`` x ``[k, channels]`` -> ``[rows, channels]``."""
        return matmul.quantized_matmul(x, kernel, self.weight, self.quantize_rows)


ROW_QUANTIZERS: dict[str, Callable[[Tensor], Rows]] = {
    "asymmetric_rows": integers.asymmetric_rows,
    "symmetric_rows": integers.symmetric_rows,
    "four_bit_rows": partial(integers.symmetric_rows, qmax=7),
}

Product = Callable[[Tensor, Tensor], Tensor]


def make_product(spec: QuantSpec) -> Product:
    """The product object for a spec."""
    if spec.weight is None:
        return FloatProduct()
    if spec.activation == "float":
        return WeightOnlyProduct(spec.weight)
    return IntegerProduct(spec.weight, ROW_QUANTIZERS[spec.activation])
