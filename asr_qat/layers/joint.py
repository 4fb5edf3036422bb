"""The joint network: which label comes next, given a frame and the labels so far."""

import keras
from keras import ops

from asr_qat.layers.dense import Dense
from asr_qat.losses.distributions import DISTRIBUTIONS
from asr_qat.losses.joint_rnnt import JointInputs


@keras.saving.register_keras_serializable("asr_qat")
class Joint(keras.layers.Layer):
    """``tanh(W_e h + W_p g) E^T + b``, E being the prediction network's table (2109.07513).

    The output weights are the embeddings themselves (row 0 is blank's own), so decoder and joint
    share one table; its product stays float. `UntiedJoint` has an E of its own.

    Args:
        dim: width of the sum, which is the width of the embeddings.
        vocabulary_size: labels, blank included.
        precision: a recipe's name or a `Policy`, for the two projections.
        distribution: what the logits say of the next label, of `losses.distributions`.
    """

    def __init__(self, dim, vocabulary_size, precision="float32", distribution="softmax", **kwargs):
        super().__init__(**kwargs)
        self.dim, self.vocabulary_size = dim, vocabulary_size
        if distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"distribution: received {distribution!r}, expected one of {list(DISTRIBUTIONS)}"
            )
        self.distribution_name, self.distribution = distribution, DISTRIBUTIONS[distribution]
        self.from_encoder = Dense(dim, precision=precision, name="encoded")
        self.from_prediction = Dense(dim, use_bias=False, precision=precision, name="predicted")

    def build(self, encoded_shape, predicted_shape):
        """``[..., encoder dim]``, ``[..., prediction dim]``."""
        self.from_encoder.build(encoded_shape)
        self.from_prediction.build(predicted_shape)
        self.bias = self.add_weight(shape=(self.vocabulary_size,), initializer="zeros", name="bias")

    def call(self, encoded, predicted, table):
        """Every frame with every prediction.

        Args:
            encoded: ``[batch, time, encoder dim]``.
            predicted: ``[batch, u + 1, prediction dim]``.
            table: ``[vocabulary, dim]``.

        Returns:
            Logits ``[batch, time, u + 1, vocabulary]``, whose softmax is the distribution.
        """
        frames = self.from_encoder(encoded)[:, :, None, :]
        labels = self.from_prediction(predicted)[:, None, :, :]
        return self._logits(frames + labels, table)

    def inputs(self, encoded, predicted, table) -> JointInputs:
        """What the logits are made of, for a loss that does not hold them; arguments as `call`."""
        return JointInputs(
            frames=self.from_encoder(encoded),
            labels=self.from_prediction(predicted),
            table=self.output_table(table),
            bias=ops.convert_to_tensor(self.bias),
        )

    def step(self, encoded, predicted, table):
        """A frame and a prediction, both ``[batch, dim]`` -> ``[batch, vocabulary]``."""
        return self._logits(self.from_encoder(encoded) + self.from_prediction(predicted), table)

    def _logits(self, x, table):
        leading = ops.shape(x)[:-1]
        rows = ops.reshape(ops.tanh(x), (-1, self.dim))
        y = ops.matmul(rows, ops.transpose(self.output_table(table))) + self.bias
        return self.distribution.log_probs(ops.reshape(y, (*leading, self.vocabulary_size)))

    def output_table(self, table):
        """The output weights ``[vocabulary, dim]``, given the prediction network's table."""
        return ops.convert_to_tensor(table)

    def get_config(self):
        """The constructor's arguments."""
        precision = self.from_encoder.get_config()["precision"]
        return {
            **super().get_config(),
            "dim": self.dim,
            "vocabulary_size": self.vocabulary_size,
            "precision": precision,
            "distribution": self.distribution_name,
        }


@keras.saving.register_keras_serializable("asr_qat")
class UntiedJoint(Joint):
    """A `Joint` with output weights of its own; the table that it is given does not matter."""

    def build(self, encoded_shape, predicted_shape):
        """``[..., encoder dim]``, ``[..., prediction dim]``."""
        super().build(encoded_shape, predicted_shape)
        self.output_weights = self.add_weight(
            shape=(self.vocabulary_size, self.dim), initializer="glorot_uniform", name="output"
        )

    def output_table(self, table):
        """Its own weights ``[vocabulary, dim]``."""
        return ops.convert_to_tensor(self.output_weights)
