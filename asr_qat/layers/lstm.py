"""Cells whose gates also see the last output: LSTM, and LSTM with coupled gates."""

from typing import Any

import keras
from keras import ops

from asr_qat.layers.gated_cell import GatedCell, multiply


@keras.saving.register_keras_serializable("asr_qat")
class LstmCell(GatedCell):
    """LSTM; its four gates are one product over input and last output joined (1402.1128).

    ``c' = sigmoid(f + 1) c + sigmoid(i) tanh(u)``, ``y = W_p (sigmoid(o) tanh(c'))`` with
    ``i, f, u, o = W [x, y_last] + b``. State: ``output`` and ``cell``. See `GatedCell`.
    """

    groups = 4

    def __init__(self, units, projection=0, layer_norm=False, precision="float32", **kwargs):
        super().__init__(units, projection, layer_norm, precision, **kwargs)
        self.state_sizes = {"output": self.width, "cell": units}
        self.emitted_sizes = {"output": self.width}
        self.products_in_loop = (self.gates,)
        if projection:
            self.emitted_sizes["hidden"] = units
            self.products_in_loop = (self.gates, self.project)

    def build(self, input_shape):
        """``[..., dim]``."""
        self.build_products(input_shape[-1] + self.width)

    def prepare(self, x, training=False):
        """The input as it is."""
        return x

    def advance(self, prepared, state, product=multiply):
        """Emits ``output``, and ``hidden``, which is the output before its projection."""
        gates = product(self.gates, ops.concatenate([prepared, state["output"]], axis=-1))
        cell, leave = self.update(self.norm(gates), state["cell"])
        hidden = ops.sigmoid(leave) * ops.tanh(cell)
        output = product(self.project, hidden) if self.projection else hidden
        return {"output": output, "hidden": hidden}, {"output": output, "cell": cell}

    def update(self, gates: Any, cell: Any) -> tuple[Any, Any]:
        """Gates ``[batch, groups * units]``, cell -> next cell, the output's gate."""
        enter, forget, update, leave = ops.split(gates, 4, axis=-1)
        cell = ops.sigmoid(forget + 1.0) * cell + ops.sigmoid(enter) * ops.tanh(update)
        return cell, leave

    def seen_in_loop(self, prepared, emitted):
        """Input and last output for the gates; ``hidden`` for the projection, if there is one."""
        before = ops.pad(emitted["output"][:, :-1], ((0, 0), (1, 0), (0, 0)))
        joined = ops.concatenate([prepared, before], axis=-1)
        return [joined, emitted["hidden"]] if self.projection else [joined]

    def finish(self, emitted, training=False):
        """The outputs."""
        return emitted["output"]


@keras.saving.register_keras_serializable("asr_qat")
class CifgCell(LstmCell):
    """LSTM whose input gate is what its forget gate leaves: three gates (1503.04069).

    ``c' = s c + (1 - s) tanh(u)`` with ``s = sigmoid(f + 1)``; else as `LstmCell`.
    """

    groups = 3

    def update(self, gates, cell):
        """Gates ``[batch, 3 * units]``, cell -> next cell, the output's gate."""
        forget, update, leave = ops.split(gates, 3, axis=-1)
        stay = ops.sigmoid(forget + 1.0)
        return stay * cell + (1.0 - stay) * ops.tanh(update), leave
