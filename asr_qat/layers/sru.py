"""The simple recurrent unit: no product depends on the state (1709.02755)."""

import keras
from keras import ops

from asr_qat.layers.gated_cell import GatedCell, multiply


@keras.saving.register_keras_serializable("asr_qat")
class SruCell(GatedCell):
    """SRU in the form of 1909.12408, with a projection.

    ``f = sigmoid(W_f x + v_f c + b_f)``, ``r = sigmoid(W_r x + v_r c + b_r)``,
    ``c' = f c + (1 - f) u`` and ``y = W_p (r c' + (1 - r) u)`` with ``u = W x + b``; products with
    ``v`` are element by element. State: ``cell``. See `GatedCell`.
    """

    groups = 3

    def __init__(self, units, projection=0, layer_norm=False, precision="float32", **kwargs):
        super().__init__(units, projection, layer_norm, precision, **kwargs)
        self.state_sizes = {"cell": units}
        self.emitted_sizes = {"hidden": units}

    def build(self, input_shape):
        """``[..., dim]``; makes ``v`` of both gates, ``[units]`` each."""
        self.build_products(input_shape[-1])
        self.forget, self.reset = (
            self.add_weight(
                shape=(self.units,),
                initializer=keras.initializers.RandomNormal(stddev=0.1),
                name=name,
            )
            for name in ("forget", "reset")
        )

    def prepare(self, x, training=False):
        """The gates but for what the state adds to them, ``[..., 3 * units]``."""
        return self.norm(self.gates(x, training=training))

    def advance(self, prepared, state, product=multiply):
        """Emits ``hidden``, the output before its projection."""
        cell = state["cell"]
        update, forget, reset = ops.split(prepared, 3, axis=-1)
        forget = ops.sigmoid(forget + self.forget * cell)
        reset = ops.sigmoid(reset + self.reset * cell)
        cell = forget * cell + (1.0 - forget) * update
        return {"hidden": reset * cell + (1.0 - reset) * update}, {"cell": cell}

    def finish(self, emitted, training=False):
        """The projected outputs."""
        return self.project(emitted["hidden"], training=training)
