"""The convolution module of the Conformer (2005.08100), causal."""

import keras
from keras import ops

from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.dense import Dense


@keras.saving.register_keras_serializable("asr_qat")
class CausalDepthwiseConvolution(StreamingLayer):
    """Each channel filtered over its own present and past, in float.

    Args:
        kernel_size: taps, the present frame's included. Above 25 XNNPACK has no fast kernel.
    """

    def __init__(self, kernel_size, **kwargs):
        super().__init__(**kwargs)
        if kernel_size < 2:
            raise ValueError(f"kernel_size: received {kernel_size}, expected at least 2")
        self.kernel_size = kernel_size

    def build(self, input_shape):
        """Makes kernel ``[kernel_size, dim, 1]``."""
        self.dim = input_shape[-1]
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.dim, 1),
            initializer=keras.initializers.VarianceScaling(
                scale=self.dim, mode="fan_in", distribution="uniform"
            ),
            name="kernel",
        )

    def initial_state(self, batch):
        """``frames``: the last ``kernel_size - 1`` frames."""
        return {"frames": ops.zeros((batch, self.kernel_size - 1, self.dim))}

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``."""
        frames = ops.concatenate([state["frames"], x], axis=1)
        y = ops.depthwise_conv(frames, ops.convert_to_tensor(self.kernel), padding="valid")
        return y, {"frames": frames[:, 1 - self.kernel_size :]}

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable("asr_qat")
class ConvolutionModule(StreamingLayer):
    """Pointwise, gated linear unit, depthwise, norm, swish, pointwise.

    Args:
        dim: width of input and output.
        kernel_size: taps of the depthwise convolution.
        precision: a recipe's name or a `Policy`, for the two pointwise products.
    """

    def __init__(self, dim, kernel_size, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.dim, self.kernel_size, self.precision = dim, kernel_size, precision
        self.inward = Dense(2 * dim, use_bias=False, precision=precision, name="pointwise_in")
        self.depthwise = CausalDepthwiseConvolution(kernel_size, name="depthwise")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")
        self.outward = Dense(dim, use_bias=False, precision=precision, name="pointwise_out")

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        for layer in (self.inward, self.depthwise, self.norm, self.outward):
            layer.build(input_shape)

    def initial_state(self, batch):
        """The depthwise convolution's frames."""
        return self.depthwise.initial_state(batch)

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, dim]``."""
        value, gate = ops.split(self.inward(x), 2, axis=-1)
        x, state = self.depthwise.step(value * ops.sigmoid(gate), state)
        return self.outward(ops.silu(self.norm(x))), state

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "kernel_size": self.kernel_size,
            "precision": self.inward.get_config()["precision"],
        }
