"""SpecAugment: masks of time and frequency, in training only (1904.08779)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("asr_qat")
class SpecAugment(keras.layers.Layer):
    """Sets random bands of features to zero, which is their mean.

    Args:
        time_masks: masks along time, each of 0 to ``time_width`` frames.
        time_width: greatest width, in frames.
        frequency_masks: masks along frequency, each of 0 to ``frequency_width`` bins.
        frequency_width: greatest width, in bins.
        seed: of the mask generator.
    """

    def __init__(
        self,
        time_masks=2,
        time_width=10,
        frequency_masks=2,
        frequency_width=15,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "time_masks": time_masks,
            "time_width": time_width,
            "frequency_masks": frequency_masks,
            "frequency_width": frequency_width,
            "seed": seed,
        }
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        """Features ``[batch, time, bins]``, masked when ``training``."""
        if not training:
            return x
        s = self.settings
        keep = self._keep(x, 1, s["time_masks"], s["time_width"])[:, :, None]
        keep = keep * self._keep(x, 2, s["frequency_masks"], s["frequency_width"])[:, None, :]
        return x * keep

    def _keep(self, x, axis, count, width):
        """float32 ``[batch, size of axis]``: 0 inside any of ``count`` random spans, else 1."""
        batch, size = ops.shape(x)[0], ops.shape(x)[axis]
        shape = (batch, count, 1)
        spans = ops.floor(keras.random.uniform(shape, 0.0, width + 1.0, seed=self.generator))
        room = ops.cast(size, "float32") - spans + 1.0
        starts = ops.floor(keras.random.uniform(shape, 0.0, 1.0, seed=self.generator) * room)
        place = ops.arange(0, size, dtype="float32")[None, None, :]
        inside = ops.logical_and(place >= starts, place < starts + spans)
        return 1.0 - ops.cast(ops.any(inside, axis=1), "float32")

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), **self.settings}
