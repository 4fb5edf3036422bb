"""A recurrent layer: a cell over time, as a loop or frame by frame."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from asr_qat.layers.base import StreamingLayer
from asr_qat.layers.dense import Dense
from asr_qat.layers.gated_cell import GatedCell, multiply
from asr_qat.layers.lstm import CifgCell, LstmCell
from asr_qat.layers.sru import SruCell

CELLS: dict[str, type[GatedCell]] = {"lstm": LstmCell, "cifg": CifgCell, "sru": SruCell}


def pieces(joined: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    """``[..., sum of sizes]`` -> ``[..., size]`` by name."""
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name] = joined[..., start : start + size]
        start += size
    return parts


class _Turns:
    """A cell as `keras.layers.RNN` wants it: states as a list, one tensor in and one out.

    Args:
        cell: the cell.
        corrected: whether behind the prepared frame stand corrections, of every product in turn.
            The products then pass no gradient on to their weights.
    """

    compute_dtype = "float32"

    def __init__(self, cell: GatedCell, corrected: bool):
        self.cell = cell
        self.corrections = {p.name: p.units for p in cell.products_in_loop} if corrected else {}
        self.state_size = list(cell.state_sizes.values())
        self.output_size = sum(cell.emitted_sizes.values())

    def __call__(self, x, states):
        prepared = x.shape[-1] - sum(self.corrections.values())
        parts = pieces(x, {"prepared": prepared, **self.corrections})

        def corrected(layer: Dense, rows):
            bias = ops.stop_gradient(layer.bias) if layer.use_bias else None
            y = layer.product(rows, ops.stop_gradient(layer.kernel), bias)
            return y + parts[layer.name]

        emitted, state = self.cell.advance(
            parts["prepared"],
            dict(zip(self.cell.state_sizes, states, strict=True)),
            corrected if self.corrections else multiply,
        )
        joined = ops.concatenate([emitted[name] for name in self.cell.emitted_sizes], axis=-1)
        return joined, [state[name] for name in self.cell.state_sizes]

    call = __call__


@keras.saving.register_keras_serializable("asr_qat")
class Recurrent(StreamingLayer):
    """A recurrent cell over ``[batch, time, dim]``, with dropout on what goes in.

    `call` loops over time, however long, inside the graph. `step` repeats the cell for every frame
    of its chunk, so that an exported chunk is a plain graph; its time is static.

    Args:
        cell: the cell's kind, of `CELLS`.
        units: width of the cell.
        projection: width of the output; 0: none, the output is `units` wide.
        layer_norm: whether the gates' inputs are normalised.
        dropout: rate on the input.
        precision: a recipe's name or a `Policy`.

    Attributes:
        width: size of the output.

    Raises:
        ValueError: if there is no cell of that kind.
    """

    def __init__(
        self,
        cell,
        units,
        projection=0,
        layer_norm=False,
        dropout=0.0,
        precision="float32",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if cell not in CELLS:
            raise ValueError(f"recurrent cell {cell!r}; expected one of: {', '.join(CELLS)}")
        self.kind = cell
        self.cell = CELLS[cell](units, projection, layer_norm, precision, name="cell")
        self.width = self.cell.width
        self.dropout = keras.layers.Dropout(dropout)
        # Keras' own `ops.scan` has no gradient under TensorFlow's XLA: its loop has no bound.
        self.loop, self.corrected_loop = (
            keras.layers.RNN(_Turns(self.cell, corrected), return_sequences=True, name=name)
            for name, corrected in (("loop", False), ("corrected_loop", True))
        )

    def build(self, input_shape):
        """``[batch, time, dim]``."""
        self.cell.build(input_shape)
        for product in self.cell.products_in_loop:
            weight = product.spec.weight
            if weight and (weight.clipping == "learned" or weight.co_trained):
                raise ValueError(
                    f"{product.path}: recipe {product.recipe_name} trains a product inside of a "
                    "loop over time; expected one without learned clipping and co-trained bits"
                )
        self.loop.build(input_shape)
        self.corrected_loop.build(input_shape)

    def initial_state(self, batch):
        """The cell's."""
        return self.cell.initial_state(batch)

    def step(self, x, state, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, width]``."""
        prepared = self.cell.prepare(self.dropout(x, training=training), training=training)
        frames = []
        for frame in ops.unstack(prepared, axis=1):
            emitted, state = self.cell.advance(frame, state)
            frames.append(emitted)
        emitted = {
            name: ops.stack([frame[name] for frame in frames], axis=1)
            for name in self.cell.emitted_sizes
        }
        return self.cell.finish(emitted, training=training), state

    def call(self, x, training=False):
        """``[batch, time, dim]`` -> ``[batch, time, width]``, from the initial state."""
        prepared = self.cell.prepare(self.dropout(x, training=training), training=training)
        emitted = self._emitted(self.loop, prepared)
        if training and self.cell.products_in_loop:
            corrections = self._corrections(prepared, emitted)
            joined = ops.concatenate([prepared, *corrections], axis=-1)
            emitted = self._emitted(self.corrected_loop, joined)
        return self.cell.finish(emitted, training=training)

    def _emitted(self, loop, x):
        states = list(self.initial_state(ops.shape(x)[0]).values())
        return pieces(loop(x, initial_state=states), self.cell.emitted_sizes)

    def _corrections(self, prepared, emitted):
        """Zeros that carry the gradients of the loop's products to their weights.

        A product inside of the loop would compute a gradient of all its weights for every frame,
        and an integer one their rounding too. Added to the results in a second turn of the loop,
        these get the gradients of all frames' results and do that once. Here, where they see all
        frames at once, products learn their ranges too.
        """
        rows = self.cell.seen_in_loop(prepared, emitted)
        results = [
            product(ops.stop_gradient(x), training=True)
            for product, x in zip(self.cell.products_in_loop, rows, strict=True)
        ]
        return [y - ops.stop_gradient(y) for y in results]

    def compute_output_shape(self, input_shape):
        """``[batch, time, dim]`` -> ``[batch, time, width]``."""
        return (*input_shape[:-1], self.width)

    def get_config(self):
        """The constructor's arguments."""
        config = self.cell.get_config()
        kept = {k: config[k] for k in ("units", "projection", "layer_norm", "precision")}
        rate = self.dropout.rate
        return {**super().get_config(), "cell": self.kind, **kept, "dropout": rate}
