"""Convolution subsampling: two causal convolutions of stride 2, 10 ms frames to 40 ms frames."""

import keras
from keras import ops

from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.dense import Dense


@keras.saving.register_keras_serializable("asr_qat")
class StridedConvolution(StreamingLayer):
    """A causal convolution over time, kernel 3, stride 2, as one dense product.

    Output t sees frames 2t-1, 2t and 2t+1. Its three frames are joined side by side, because
    integer kernels exist for dense products and not for convolutions.

    Args:
        units: output size.
        activation: anything `keras.activations.get` takes.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(self, units, activation="swish", precision="float32", **kwargs):
        super().__init__(**kwargs)
        # Frames that SpecAugment set to zero must not stay zero: the norms after them have a slope
        # of 1 / sqrt(epsilon) there, and the gradient grows without bound from norm to norm.
        self.dense = Dense(
            units,
            activation=activation,
            bias_initializer=keras.initializers.RandomNormal(stddev=0.3),
            precision=precision,
            name="product",
        )

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        self.dim = input_shape[-1]
        self.dense.build((None, None, 3 * self.dim))

    def initial_state(self, batch):
        """``frame``: the last frame, ``[batch, 1, dim]``."""
        return {"frame": ops.zeros((batch, 1, self.dim))}

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time // 2, units]``; an odd last frame is dropped."""
        pairs = ops.shape(x)[1] // 2
        x = x[:, : 2 * pairs]
        joined = ops.reshape(x, (-1, pairs, 2 * self.dim))
        odd = joined[:, :, self.dim :]
        before = ops.concatenate([state["frame"], odd[:, :-1]], axis=1)
        y = self.dense(ops.concatenate([before, joined], axis=-1))
        return y, {"frame": odd[:, -1:]}

    def compute_output_shape(self, input_shape):
        """``[batch, time, dim]`` -> ``[batch, time // 2, units]``."""
        return (input_shape[0], input_shape[1] and input_shape[1] // 2, self.dense.units)

    def get_config(self):
        """The constructor's arguments."""
        config = self.dense.get_config()
        kept = {k: config[k] for k in ("units", "activation", "precision")}
        return {**super().get_config(), **kept}


@keras.saving.register_keras_serializable("asr_qat")
class ConvolutionSubsampling(StreamingLayer):
    """Two `StridedConvolution` layers: a quarter of the frames, ``units`` wide.

    Args:
        units: output size.
        width: output size of the first of the two.
        precision: a recipe's name or a `Policy`.
    """

    factor = 4

    def __init__(self, units, width, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.first = StridedConvolution(width, precision=precision, name="conv_0")
        self.second = StridedConvolution(units, precision=precision, name="conv_1")

    def build(self, input_shape):
        """``[batch, time, bins]``."""
        self.first.build(input_shape)
        self.second.build(self.first.compute_output_shape(input_shape))

    def initial_state(self, batch):
        """One frame for each of the two convolutions."""
        return {
            "conv_0": self.first.initial_state(batch),
            "conv_1": self.second.initial_state(batch),
        }

    def step(self, x, state, training=False):
        """``[batch, time, bins]`` -> ``[batch, time // 4, units]``."""
        x, first = self.first.step(x, state["conv_0"])
        x, second = self.second.step(x, state["conv_1"])
        return x, {"conv_0": first, "conv_1": second}

    def compute_output_shape(self, input_shape):
        """``[batch, time, bins]`` -> ``[batch, time // 4, units]``."""
        return self.second.compute_output_shape(self.first.compute_output_shape(input_shape))

    def get_config(self):
        """The constructor's arguments."""
        config = self.second.get_config()
        kept = {k: config[k] for k in ("units", "precision")}
        return {**super().get_config(), **kept, "width": self.first.get_config()["units"]}
