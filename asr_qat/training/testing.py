"""A corpus of noise and a model that compiles in a second, for tests that train."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from asr_qat.data.audio import write_wav
from asr_qat.data.manifest import Utterance
from asr_qat.layers.dense import Dense
from asr_qat.training.run import BatchConfig

BATCHES = BatchConfig(batch_size=4, bucket_seconds=(1.0,), augment=None)


def noise_corpus(
    folder: Path, count: int = 8, seconds: tuple[float, float] = (0.75, 0.75)
) -> list[Utterance]:
    """Recordings in a folder, from the shortest to the longest, "ba a" and "ab" in turn."""
    rng = np.random.default_rng(0)
    utterances = []
    for i, duration in enumerate(np.linspace(*seconds, count)):
        path = folder / f"{i}.wav"
        write_wav(path, 0.1 * rng.normal(size=int(16000 * duration)).astype("float32"), 16000)
        text = "ab" if i % 2 else "ba a"
        utterances.append(
            Utterance(
                audio_filepath=path, duration=float(duration), text=text, speaker="s", id=str(i)
            )
        )
    return utterances


class TinyModel(keras.Model):
    """Takes a transducer's batches; two dense layers with dropout between, and a loss of its own.

    The loss depends on how much a batch is padded, as a real one does in its last bits.
    """

    def __init__(self, precision: str = "float32"):
        super().__init__(name="tiny")
        self.first = Dense(16, precision=precision, name="first")
        self.dropout = keras.layers.Dropout(0.3, seed=1)
        self.second = Dense(4, precision=precision, name="second")
        self.first.build((None, 8))
        self.second.build((None, 16))
        self.built = True

    def call(self, inputs, training=False):
        """Means of 8 parts of each recording, through the layers."""
        parts = ops.reshape(inputs["audio"], (ops.shape(inputs["audio"])[0], 8, -1))
        hidden = self.dropout(self.first(100 * ops.mean(parts, axis=2)), training=training)
        return self.second(hidden)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """How far the outputs are from the numbers of labels."""
        target = ops.cast(ops.expand_dims(x["label_length"], 1), "float32")
        return ops.mean(ops.square(y_pred - target))
