"""The recurrent prediction network: embeddings, then LSTM layers over the labels (1211.3711)."""

import keras
from keras import ops

from asr_qat.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable("asr_qat")
class RecurrentDecoder(keras.layers.Layer):
    """Embedding, then recurrent layers; the last one's output is the prediction.

    1909.12408 has 2 layers of LSTM(2048), projected to 640, on embeddings of 128.

    Args:
        vocabulary_size: labels, blank (0) included. Row 0 stands for "no label yet".
        embedding: width of the embeddings.
        cell: kind of the layers' cells: ``"lstm"``, ``"cifg"`` or ``"sru"``.
        units: width of the cells.
        projection: width of the layers' outputs; 0: none, they are `units` wide.
        layers: number of recurrent layers.
        layer_norm: whether the gates' inputs are normalised.
        precision: a recipe's name or a `Policy`.

    Attributes:
        dim: width of the output.

    Raises:
        ValueError: if there is no such cell, or no layer.
    """

    def __init__(
        self,
        vocabulary_size,
        embedding=128,
        cell="lstm",
        units=2048,
        projection=640,
        layers=2,
        layer_norm=True,
        precision="float32",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if layers < 1:
            raise ValueError(f"{layers} recurrent layers; expected at least 1")
        self.settings = {
            "vocabulary_size": vocabulary_size,
            "embedding": embedding,
            "cell": cell,
            "units": units,
            "projection": projection,
            "layers": layers,
            "layer_norm": layer_norm,
        }
        self.vocabulary_size, self.embedding = vocabulary_size, embedding
        self.recurrent = [
            Recurrent(
                cell, units, projection, layer_norm, precision=precision, name=f"layer_{number}"
            )
            for number in range(layers)
        ]
        self.dim = self.recurrent[-1].width

    def build(self, input_shape=None):
        """Makes table ``[vocabulary, embedding]``."""
        self.table = self.add_weight(
            shape=(self.vocabulary_size, self.embedding),
            initializer=keras.initializers.VarianceScaling(mode="fan_out"),
            name="table",
        )
        shape = (None, None, self.embedding)
        for layer in self.recurrent:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def initial_state(self, batch):
        """The states of all layers, by their names."""
        return {layer.name: layer.initial_state(batch) for layer in self.recurrent}

    def call(self, labels, training=False):
        """Labels int32 ``[batch, u]`` -> predictions ``[batch, u + 1, dim]``, first for none."""
        x = self._embed(ops.pad(labels, ((0, 0), (1, 0))))
        for layer in self.recurrent:
            x = layer(x, training=training)
        return x

    def step(self, label, state):
        """One label int32 ``[batch]`` -> prediction ``[batch, dim]``, next state."""
        x, after = self._embed(label), {}
        for layer in self.recurrent:
            x, after[layer.name] = layer.cell.step(x, state[layer.name])
        return x, after

    def _embed(self, labels):
        return ops.take(ops.convert_to_tensor(self.table), labels, axis=0)

    def get_config(self):
        """The constructor's arguments."""
        precision = self.recurrent[-1].get_config()["precision"]
        return {**super().get_config(), **self.settings, "precision": precision}
