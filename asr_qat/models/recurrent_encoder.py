"""The recurrent encoder: frames stacked, then LSTM layers with a time reduction (1909.12408)."""

import keras

from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.frame_stacking import FrameStacking
from asr_qat.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable("asr_qat")
class RecurrentEncoder(StreamingLayer):
    """Features ``[batch, time, bins]`` -> ``[batch, time // factor, dim]``.

    The paper's has 128 bins and joins 4 frames (3 before the present one) every 30 ms, then has 8
    layers of LSTM(2048) projected to 640, halving the frames after the second.

    Args:
        cell: kind of the layers' cells: ``"lstm"``, ``"cifg"`` or ``"sru"``.
        units: width of the cells.
        projection: width of the layers' outputs; 0: none, they are `units` wide.
        layers: number of recurrent layers.
        stack: feature frames joined, the present one the last.
        stride: feature frames from one stack to the next.
        reduction: frames joined into one by the time reduction; 1: none.
        reduce_after: layers in front of the time reduction.
        layer_norm: whether the gates' inputs are normalised.
        dropout: rate between the layers.
        precision: a recipe's name or a `Policy`.

    Attributes:
        factor: feature frames of an output frame.
        dim: width of the output.

    Raises:
        ValueError: if there is no such cell, or no such layer to reduce after.
    """

    def __init__(
        self,
        cell="lstm",
        units=2048,
        projection=640,
        layers=8,
        stack=4,
        stride=3,
        reduction=2,
        reduce_after=2,
        layer_norm=True,
        dropout=0.0,
        precision="float32",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if layers < 1 or not 0 <= reduce_after <= layers:
            raise ValueError(
                f"time reduction after {reduce_after} of {layers} layers; expected at least 1 "
                "layer, and a number from 0 to theirs"
            )
        self.settings = {
            "cell": cell,
            "units": units,
            "projection": projection,
            "layers": layers,
            "stack": stack,
            "stride": stride,
            "reduction": reduction,
            "reduce_after": reduce_after,
            "layer_norm": layer_norm,
            "dropout": dropout,
        }
        self.factor = stride * reduction
        self.recurrent = [
            Recurrent(
                cell,
                units,
                projection,
                layer_norm,
                dropout if number else 0.0,
                precision,
                name=f"layer_{number}",
            )
            for number in range(layers)
        ]
        self.stages = [
            FrameStacking(stack, stride, name="stacking"),
            *self.recurrent[:reduce_after],
            FrameStacking(reduction, reduction, name="reduction"),
            *self.recurrent[reduce_after:],
        ]
        self.dim = self.compute_output_shape((None, None, 1))[-1]

    def build(self, input_shape):
        """``[batch, time, bins]``."""
        for stage in self.stages:
            stage.build(input_shape)
            input_shape = stage.compute_output_shape(input_shape)

    def initial_state(self, batch):
        """The states of all stages, by their names."""
        return {stage.name: stage.initial_state(batch) for stage in self.stages}

    def step(self, x, state, training=False):
        """``[batch, time, bins]`` -> ``[batch, time // factor, dim]``; time a static multiple."""
        after = {}
        for stage in self.stages:
            x, after[stage.name] = stage.step(x, state[stage.name], training=training)
        return x, after

    def call(self, x, training=False):
        """``[batch, time, bins]`` -> ``[batch, time // factor, dim]``; the layers loop over it."""
        for stage in self.stages:
            x = stage(x, training=training)
        return x

    def compute_output_shape(self, input_shape):
        """``[batch, time, bins]`` -> ``[batch, time // factor, dim]``."""
        for stage in self.stages:
            input_shape = stage.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        precision = self.recurrent[-1].get_config()["precision"]
        return {**super().get_config(), **self.settings, "precision": precision}
