"""A recurrent language model over a recogniser's labels, as a Keras model."""

import dataclasses

import keras
from keras import ops

from asr_qat.layers.dense import Dense
from asr_qat.layers.recurrent_decoder import RecurrentDecoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class LstmConfig:
    """Sizes of the model.

    Raises:
        ValueError: for a size below 1.
    """

    embedding: int = 128
    units: int = 512  # of each layer
    layers: int = 1

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name}: received {value}, expected at least 1")


@keras.saving.register_keras_serializable("asr_qat")
class LstmLanguageModel(keras.Model):
    """Label ids -> logits of the next one; LSTM layers and a dense layer.

    Id 0, the recogniser's blank, stands for the start of an utterance as an input and for its end
    as an output. A batch is an array of labels int32 ``[batch, u]``, 0 behind the end of each.
    ``compile`` takes no loss.

    Args:
        vocabulary_size: labels, blank included.
        config: sizes.
        precision: a recipe's name or a `Policy`, for all products.
    """

    def __init__(self, vocabulary_size: int, config: LstmConfig, precision="float32", **kwargs):
        super().__init__(**{"name": "language_model", **kwargs})
        self.vocabulary_size, self.config, self.precision = vocabulary_size, config, precision
        self.decoder = RecurrentDecoder(
            vocabulary_size,
            embedding=config.embedding,
            units=config.units,
            projection=0,
            layers=config.layers,
            precision=precision,
            name="labels",
        )
        self.scores = Dense(vocabulary_size, precision=precision, name="scores")
        self.decoder.build(None)
        self.scores.build((None, self.decoder.dim))
        self.built = True

    def call(self, labels, training=False):
        """Labels ``[batch, u]`` -> logits ``[batch, u + 1, labels]``, first those of the start."""
        return self.scores(self.decoder(labels, training=training), training=training)

    def step(self, label, state):
        """One label int32 ``[batch]`` -> log probabilities ``[batch, labels]``, next state."""
        x, state = self.decoder.step(label, state)
        return ops.log_softmax(self.scores(x), axis=-1), state

    def nats(self, labels, logits):
        """Minus log probability of every label and end, 0 behind it: ``[batch, u + 1]``."""
        targets = ops.pad(labels, ((0, 0), (0, 1)))
        losses = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        known = ops.pad(labels != 0, ((0, 0), (1, 0)), constant_values=True)
        return ops.where(known, losses, 0.0)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean nats of a label, ends included."""
        tokens = ops.cast(ops.sum(ops.cast(x != 0, "int32")) + ops.shape(x)[0], "float32")
        return ops.sum(self.nats(x, y_pred)) / tokens

    def get_config(self):
        """The constructor's arguments."""
        return {
            "name": self.name,
            "vocabulary_size": self.vocabulary_size,
            "config": dataclasses.asdict(self.config),
            "precision": self.decoder.get_config()["precision"],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The inverse of `get_config`."""
        return cls(**{**config, "config": LstmConfig(**config["config"])})
