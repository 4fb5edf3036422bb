"""The recurrent prediction network: one LSTM over the labels (1211.3711)."""

import keras
from keras import ops

from asr_qat.layers.dense import Dense


@keras.saving.register_keras_serializable("asr_qat")
class LstmCell(keras.layers.Layer):
    """One LSTM step; its four gates are one product over input and output joined.

    Args:
        units: width of output and cell.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(self, units, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, units]
        self.output_size = units
        self.gates = Dense(4 * units, precision=precision, name="gates")

    def build(self, input_shape):
        """``[batch, dim]``."""
        self.gates.build((None, input_shape[-1] + self.units))

    def call(self, x, states):
        """``[batch, dim]``, (output, cell) -> output, (output, cell)."""
        output, cell = states
        gates = self.gates(ops.concatenate([x, output], axis=-1))
        enter, forget, update, leave = ops.split(gates, 4, axis=-1)
        cell = ops.sigmoid(forget + 1.0) * cell + ops.sigmoid(enter) * ops.tanh(update)
        output = ops.sigmoid(leave) * ops.tanh(cell)
        return output, [output, cell]

    def get_config(self):
        """The constructor's arguments."""
        precision = self.gates.get_config()["precision"]
        return {**super().get_config(), "units": self.units, "precision": precision}


@keras.saving.register_keras_serializable("asr_qat")
class LstmDecoder(keras.layers.Layer):
    """Embedding, LSTM, projection.

    Args:
        vocabulary_size: labels, blank (0) included. Row 0 stands for "no label yet".
        dim: width of embeddings and output.
        units: width of the LSTM.
        precision: a recipe's name or a `Policy`.
    """

    def __init__(self, vocabulary_size, dim, units, precision="float32", **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size, self.dim, self.units = vocabulary_size, dim, units
        self.cell = LstmCell(units, precision, name="lstm")
        self.over_labels = keras.layers.RNN(self.cell, return_sequences=True, name="over_labels")
        self.project = Dense(dim, precision=precision, name="project")

    def build(self, input_shape=None):
        """Makes table ``[vocabulary, dim]``."""
        self.table = self.add_weight(
            shape=(self.vocabulary_size, self.dim),
            initializer=keras.initializers.VarianceScaling(mode="fan_out"),
            name="table",
        )
        self.over_labels.build((None, None, self.dim))
        self.project.build((None, self.units))

    def initial_state(self, batch):
        """Output and cell of the LSTM, ``[batch, units]``."""
        return {"output": ops.zeros((batch, self.units)), "cell": ops.zeros((batch, self.units))}

    def call(self, labels):
        """Labels int32 ``[batch, u]`` -> predictions ``[batch, u + 1, dim]``, first for none."""
        return self.project(self.over_labels(self._embed(ops.pad(labels, ((0, 0), (1, 0))))))

    def step(self, label, state):
        """One label int32 ``[batch]`` -> prediction ``[batch, dim]``, next state."""
        output, cell = state["output"], state["cell"]
        y, (output, cell) = self.cell(self._embed(label), [output, cell])
        return self.project(y), {"output": output, "cell": cell}

    def _embed(self, labels):
        return ops.take(ops.convert_to_tensor(self.table), labels, axis=0)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "dim": self.dim,
            "units": self.units,
            "precision": self.project.get_config()["precision"],
        }
