"""The objects that a layer holds: each computes one weight product at one precision."""

from collections.abc import Callable
from typing import Any

from keras import ops

from asr_qat.quantization import integers, matmul, static
from asr_qat.quantization.integers import Rows, Tensor
from asr_qat.quantization.ranges import LearnedRange
from asr_qat.quantization.spec import QuantSpec, WeightSpec
from asr_qat.quantization.weights import Weights


class Product:
    """How a dense layer computes ``x @ kernel + bias``.

    A product that learns something of its own (ranges, say) makes it in `build`, as weights of
    the layer that holds it.
    """

    def build(self, layer: Any, inputs: int, units: int) -> None:
        """Adds the product's own weights to the layer; most have none.

        Args:
            layer: the Keras layer that holds the product, being built.
            inputs: size of the last axis of x.
            units: size of the last axis of the result.
        """

    def start_from(self, kernel: Tensor) -> None:
        """Sets the product's own weights to fit a trained kernel ``[k, channels]``."""

    def served_kernel(self, kernel: Tensor) -> Tensor:
        """The kernel ``[k, channels]`` that a file stores, at its own precision."""
        return kernel

    def __call__(
        self, x: Tensor, kernel: Tensor, bias: Tensor | None = None, training: bool = False
    ) -> Tensor:
        """``x @ kernel + bias``.

        Args:
            x: float32 ``[..., k]``.
            kernel: float32 ``[k, channels]``, a tensor or a variable.
            bias: float32 ``[channels]``, or None.
            training: whether the product may learn from x.

        Returns:
            float32 ``[..., channels]``.
        """
        raise NotImplementedError


class FloatProduct(Product):
    """``x @ kernel + bias`` in float32."""

    def __call__(self, x, kernel, bias=None, training=False):
        """See `Product`."""
        return with_bias(ops.matmul(x, kernel), bias)


class BFloat16Product(Product):
    """``x @ kernel + bias``, the product in bfloat16: for training, on hardware that is fast at it.

    Weights, bias and result are float32, as in Keras' ``mixed_bfloat16``.
    """

    def __call__(self, x, kernel, bias=None, training=False):
        """See `Product`."""
        y = ops.matmul(*(ops.cast(each, "bfloat16") for each in (x, as_tensor(kernel))))
        return with_bias(ops.cast(y, "float32"), bias)


class Float16Product(Product):
    """``x @ kernel + bias`` in float32, the kernel rounded to float16 as it will be stored."""

    def __call__(self, x, kernel, bias=None, training=False):
        """See `Product`."""
        return with_bias(ops.matmul(x, matmul.float16_kernel(as_tensor(kernel))), bias)


class QuantizedProduct(Product):
    """With integer weights.

    Args:
        weight: how the kernel is quantized.
    """

    def __init__(self, weight: WeightSpec):
        self.weight = weight
        self.weights = Weights(weight)

    def build(self, layer, inputs, units):
        """Adds what training does to the weights needs."""
        self.weights.build(layer, units)

    def start_from(self, kernel):
        """See `Product`."""
        self.weights.start_from(kernel)

    def served_kernel(self, kernel):
        """See `Product`."""
        return self.weights.served(kernel)


class WeightOnlyProduct(QuantizedProduct):
    """Float rows times integer weights that are dequantized first."""

    def __call__(self, x, kernel, bias=None, training=False):
        """See `Product`."""
        kernel, weight = self.weights(as_tensor(kernel), training)
        return with_bias(matmul.weight_only_matmul(x, kernel, weight), bias)


class IntegerProduct(QuantizedProduct):
    """Integer rows, quantized one by one, times integer weights; int32 accumulation.

    Args:
        weight: how the kernel is quantized.
        quantize_rows: how the rows are, such as `integers.asymmetric_rows`.
        rescale: how accumulators become values, such as `matmul.row_scale_first`.
    """

    def __init__(
        self,
        weight: WeightSpec,
        quantize_rows: Callable[[Tensor], Rows],
        rescale: matmul.Rescale = matmul.row_scale_first,
    ):
        super().__init__(weight)
        self.quantize_rows = quantize_rows
        self.rescale = rescale

    def __call__(self, x, kernel, bias=None, training=False):
        """See `Product`."""
        kernel, weight = self.weights(as_tensor(kernel), training)
        y = matmul.quantized_matmul(as_rows(x), kernel, weight, self.quantize_rows, self.rescale)
        return like_rows_of(x, with_bias(y, bias))


class FourBitProduct(IntegerProduct):
    """Rows of 4-bit codes times integer weights: float operators of the file make the codes."""

    def __init__(self, weight: WeightSpec):
        super().__init__(weight, integers.four_bit_rows, matmul.row_scale_last)


class StaticProduct(QuantizedProduct):
    """int8 in, int8 out, each with one learned range for the whole tensor; int32 between.

    In training the ranges follow the batches; otherwise they are frozen, and a range that was
    never observed is the batch's own.

    Args:
        weight: how the kernel is quantized.

    Attributes:
        input_range: `LearnedRange` of x, a weight of the layer once built.
        output_range: of the result, bias included.
    """

    def __init__(self, weight: WeightSpec):
        super().__init__(weight)
        self.input_range = LearnedRange("input_range")
        self.output_range = LearnedRange("output_range")

    def build(self, layer, inputs, units):
        """Adds both ranges to the layer."""
        super().build(layer, inputs, units)
        self.input_range.build(layer)
        self.output_range.build(layer)

    def ranges_known(self) -> bool:
        """Whether both ranges have been observed, so that the layer can be exported."""
        return self.input_range.known() and self.output_range.known()

    def frozen(self, kernel: Tensor, bias: Tensor | None = None) -> static.StaticLayer:
        """What a file stores: codes, scales and zero points with the ranges as they are now."""
        kernel, bias = _kernel_and_bias(kernel, bias)
        kernel = self.served_kernel(kernel)
        ranges = (ops.convert_to_tensor(r.value) for r in (self.input_range, self.output_range))
        return static.frozen(kernel, bias, self.weight, *ranges)

    def __call__(self, x, kernel, bias=None, training=False):
        """See `Product`."""
        kernel, bias = _kernel_and_bias(kernel, bias)
        kernel, weight = self.weights(kernel, training)
        y = static.static_matmul(
            as_rows(x),
            kernel,
            bias,
            weight,
            lambda rows: self.input_range(rows, training),
            lambda result: self.output_range(result, training),
        )
        return like_rows_of(x, y)


def _kernel_and_bias(kernel, bias):
    """Both as tensors; zeros where there is no bias."""
    bias = ops.zeros((kernel.shape[-1],)) if bias is None else as_tensor(bias)
    return as_tensor(kernel), bias


def as_tensor(value: Tensor) -> Tensor:
    """A variable's value: TensorFlow's custom gradients take tensors and no variables."""
    return ops.copy(value)


def as_rows(x: Tensor) -> Tensor:
    """``[..., k]`` -> ``[rows, k]``."""
    return ops.reshape(x, (-1, x.shape[-1]))


def like_rows_of(x: Tensor, y: Tensor) -> Tensor:
    """``[rows, channels]`` -> ``[..., channels]``, with the leading axes of x."""
    return ops.reshape(y, (*ops.shape(x)[:-1], y.shape[-1]))


def with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """``y + bias``, or y where there is none."""
    return y if bias is None else y + bias


# Activations that are quantized row by row while the product runs, as float32 in the file.
ROW_QUANTIZERS: dict[str, Callable[[Tensor], Rows]] = {
    "asymmetric_rows": integers.asymmetric_rows,
    "symmetric_rows": integers.symmetric_rows,
}


def make_product(spec: QuantSpec) -> Product:
    """The product object for a spec."""
    if spec.weight is None:
        return Float16Product() if spec.storage == "float16" else FloatProduct()
    if spec.activation in ROW_QUANTIZERS:
        return IntegerProduct(spec.weight, ROW_QUANTIZERS[spec.activation])
    return {
        "float": WeightOnlyProduct,
        "four_bit_rows": FourBitProduct,
        "static_int8": StaticProduct,
    }[spec.activation](spec.weight)
