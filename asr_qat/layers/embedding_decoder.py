"""The patent's prediction network: a few embeddings, averaged (US 2023/0298569 A1, Fig. 3)."""

import keras
from keras import ops

from asr_qat.layers.dense import Dense


@keras.saving.register_keras_serializable("asr_qat")
class EmbeddingDecoder(keras.layers.Layer):
    """The last labels' embeddings, weighted by position, averaged, projected (2109.07513).

    Head h weights the embedding x_n of the n-th last label by ``x_n . p[h, n]``; the weighted
    embeddings are averaged over labels and heads; a dense layer with swish and a norm follow.
    The table is shared with the joint's output (see `layers.joint.Joint`).

    Args:
        vocabulary_size: labels, blank (0) included. Row 0 stands for "no label yet".
        dim: width of embeddings and output.
        history: labels that are looked back on.
        heads: position vectors a label.
        train_positions: whether they are learned; fixed and random ones do as well (2109.07513).
        precision: a recipe's name or a `Policy`.
    """

    def __init__(
        self,
        vocabulary_size,
        dim,
        history=2,
        heads=4,
        train_positions=True,
        precision="float32",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size, self.dim = vocabulary_size, dim
        self.history, self.heads, self.train_positions = history, heads, train_positions
        self.project = Dense(dim, activation="swish", precision=precision, name="project")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")

    def build(self, input_shape=None):
        """Makes table ``[vocabulary, dim]`` and positions ``[heads, history, dim]``."""
        self.table = self.add_weight(
            shape=(self.vocabulary_size, self.dim),
            initializer=keras.initializers.VarianceScaling(mode="fan_out"),
            name="table",
        )
        self.positions = self.add_weight(
            shape=(self.heads, self.history, self.dim),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            trainable=self.train_positions,
            name="positions",
        )
        self.project.build((None, self.dim))
        self.norm.build((None, self.dim))

    def initial_state(self, batch):
        """``history``: the labels before the last, int32 ``[batch, history - 1]``, all 0."""
        return {"history": ops.zeros((batch, self.history - 1), dtype="int32")}

    def call(self, labels, training=False):
        """Labels int32 ``[batch, u]`` -> predictions ``[batch, u + 1, dim]``, first for none."""
        padded = ops.pad(labels, ((0, 0), (self.history, 0)))
        count = ops.shape(labels)[1] + 1
        windows = [padded[:, n : n + count] for n in range(self.history)]
        return self._predict(ops.stack(windows, axis=-1))

    def step(self, label, state):
        """One label int32 ``[batch]`` -> prediction ``[batch, dim]``, next state."""
        labels = ops.concatenate([state["history"], ops.expand_dims(label, 1)], axis=1)
        return self._predict(labels), {"history": labels[:, 1:]}

    def _predict(self, labels):
        """Labels ``[..., history]``, oldest first -> ``[..., dim]``."""
        embedded = ops.take(ops.convert_to_tensor(self.table), labels, axis=0)
        # The mean over heads of x (x . p_h) is x (x . mean p_h).
        positions = ops.mean(ops.convert_to_tensor(self.positions), axis=0)
        weights = ops.sum(embedded * positions, axis=-1, keepdims=True)
        return self.norm(self.project(ops.mean(embedded * weights, axis=-2)))

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "dim": self.dim,
            "history": self.history,
            "heads": self.heads,
            "train_positions": self.train_positions,
            "precision": self.project.get_config()["precision"],
        }
