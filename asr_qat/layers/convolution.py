"""The convolution module of the Conformer (2005.08100), causal."""

import keras
from keras import ops

from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.dense import Dense, resolve
from asr_qat.layers.norm import EPSILON, rms_normalize
from asr_qat.quantization.matmul import dequantized_kernel, float16_kernel
from asr_qat.quantization.spec import Policy, QuantSpec, recipe

DEPTHWISE_RECIPE = "weight_only_wi8_afp32"


def stored_kernel(kernel, spec: QuantSpec):
    """A float32 kernel ``[taps, dim]`` as a file has it."""
    if spec.weight is not None:
        return dequantized_kernel(kernel, spec.weight)
    return float16_kernel(kernel) if spec.storage == "float16" else kernel


def filtered(frames, kernel):
    """Each channel filtered with its own taps: a sum of shifted products.

    XLA makes one loop of it, forward and backward; its own depthwise convolution takes several
    times as long on CPUs (benchmarks/depthwise.py).

    Args:
        frames: float32 ``[batch, time + taps - 1, dim]``.
        kernel: float32 ``[taps, dim]``.

    Returns:
        float32 ``[batch, time, dim]``.
    """
    taps = kernel.shape[0]
    time = ops.shape(frames)[1] - taps + 1
    return sum(frames[:, i : i + time] * kernel[i] for i in range(taps))


class DepthwiseProduct:
    """Each channel of a sequence filtered with its own taps, as stored by a recipe."""

    def __init__(self, spec: QuantSpec):
        self.spec = spec

    def __call__(self, frames, kernel):
        """``[batch, time + taps - 1, dim]``, ``[taps, dim]`` -> ``[batch, time, dim]``."""
        return filtered(frames, stored_kernel(ops.copy(kernel), self.spec))


@keras.saving.register_keras_serializable("asr_qat")
class CausalDepthwiseConvolution(StreamingLayer):
    """Each channel filtered over its own present and past.

    No kernel of TFLite multiplies integers here that quantizes rows as it goes, so an integer
    recipe quantizes the weights alone: 8 bits, whatever the recipe's (`DEPTHWISE_RECIPE`).

    Args:
        kernel_size: taps, the present frame's included. Above 25 XNNPACK has no fast kernel.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(self, kernel_size, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.precision = precision
        if kernel_size < 2:
            raise ValueError(f"kernel_size: received {kernel_size}, expected at least 2")
        self.kernel_size = kernel_size

    def build(self, input_shape):
        """Makes kernel ``[kernel_size, dim]``; resolves the precision."""
        self.dim = input_shape[-1]
        self.apply_recipe(resolve(self.precision, self.path))
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.dim),
            initializer=keras.initializers.VarianceScaling(mode="fan_in", distribution="uniform"),
            name="kernel",
        )

    def apply_recipe(self, name):
        """Computes by this recipe from now on, or by 8-bit weights if its weights are integers."""
        self.recipe_name = name if recipe(name).weight is None else DEPTHWISE_RECIPE
        self.spec = recipe(self.recipe_name)
        self.product = DepthwiseProduct(self.spec)

    def served_kernel(self):
        """The kernel ``[kernel_size, dim]`` that a file stores, at its precision."""
        return ops.convert_to_tensor(self.kernel)

    def initial_state(self, batch):
        """``frames``: the last ``kernel_size - 1`` frames."""
        return {"frames": ops.zeros((batch, self.kernel_size - 1, self.dim))}

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``."""
        frames = ops.concatenate([state["frames"], x], axis=1)
        y = self.product(frames, self.kernel)
        return y, {"frames": frames[:, 1 - self.kernel_size :]}

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        precision = self.precision
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "precision": precision.to_list() if isinstance(precision, Policy) else precision,
        }


@keras.saving.register_keras_serializable("asr_qat")
class ConvolutionModule(StreamingLayer):
    """Norm, pointwise, gated linear unit, depthwise, norm, swish, pointwise, added to the input.

    Args:
        dim: width of input and output.
        kernel_size: taps of the depthwise convolution.
        dropout: rate on the result.
        precision: a recipe's name or a `Policy`, for the two pointwise products.
    """

    def __init__(self, dim, kernel_size, dropout=0.0, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.dim, self.kernel_size, self.rate = dim, kernel_size, dropout
        self.precision = precision
        self.inward = Dense(2 * dim, use_bias=False, precision=precision, name="pointwise_in")
        self.depthwise = CausalDepthwiseConvolution(kernel_size, precision, name="depthwise")
        self.norm = keras.layers.RMSNormalization(epsilon=EPSILON, name="norm")
        self.outward = Dense(dim, use_bias=False, precision=precision, name="pointwise_out")
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        for layer in (self.inward, self.depthwise, self.norm, self.outward):
            layer.build(input_shape)

    def initial_state(self, batch):
        """The depthwise convolution's frames."""
        return self.depthwise.initial_state(batch)

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``."""
        value, gate = ops.split(self.inward(rms_normalize(x)), 2, axis=-1)
        y, state = self.depthwise.step(value * ops.sigmoid(gate), state)
        y = self.outward(ops.silu(self.norm(y)))
        return x + self.dropout(y, training=training), state

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "kernel_size": self.kernel_size,
            "dropout": self.rate,
            "precision": self.inward.get_config()["precision"],
        }
