"""Training of recurrent language models: plain Keras ``fit`` inside."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from asr_qat.language_models.lstm import LstmLanguageModel
from asr_qat.training.schedules import warmup_cosine

_MULTIPLE = 16  # labels; batches are as long as a multiple of it, so that few shapes are traced


@dataclasses.dataclass(frozen=True, kw_only=True)
class LstmTrainingConfig:
    """How a model is trained.

    Raises:
        ValueError: for a number below 1, or a rate that is not above 0.
    """

    epochs: int = 5
    batch_size: int = 64  # sentences
    learning_rate: float = 2e-3  # at its peak; falls to nearly zero at the end
    clip_norm: float = 1.0  # of the whole gradient
    jit_compile: bool = False  # by XLA, once for every length of a batch
    seed: int = 0

    def __post_init__(self):
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"epochs {self.epochs}, batch size {self.batch_size}, learning rate "
                f"{self.learning_rate}: expected at least 1, 1 and above 0"
            )


class SentenceBatches(keras.utils.PyDataset):
    """Batches of sentences of nearly equal length, in an order that changes every epoch."""

    def __init__(self, sentences: Sequence[Sequence[int]], batch_size: int, seed: int):
        """Labels of each sentence; a seed, from which the order follows."""
        super().__init__()
        self._rng = np.random.default_rng(seed)
        self._sentences, self._batch_size = sentences, batch_size
        self._order = self._shuffled()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> np.ndarray:
        return padded([self._sentences[i] for i in self._order[index]])

    def on_epoch_end(self) -> None:
        """Another order."""
        self._order = self._shuffled()

    def _shuffled(self) -> list[np.ndarray]:
        order = self._rng.permutation(len(self._sentences))
        lengths = np.array([len(self._sentences[i]) for i in order])
        order = order[np.argsort(lengths, kind="stable")]
        batches = [order[i : i + self._batch_size] for i in range(0, len(order), self._batch_size)]
        return [batches[i] for i in self._rng.permutation(len(batches))]


def padded(sentences: Sequence[Sequence[int]]) -> np.ndarray:
    """Sentences as one array int32 ``[sentences, u]``, 0 behind each."""
    longest = max(map(len, sentences))
    labels = np.zeros((len(sentences), -(-max(longest, 1) // _MULTIPLE) * _MULTIPLE), np.int32)
    for row, sentence in zip(labels, sentences, strict=True):
        row[: len(sentence)] = sentence
    return labels


def nats_of(
    model: LstmLanguageModel, sentences: Sequence[Sequence[int]], batch_size: int = 64
) -> float:
    """Minus log probability of sentences, in all."""
    total = 0.0
    by_length = sorted(sentences, key=len)
    for start in range(0, len(by_length), batch_size):
        labels = padded(by_length[start : start + batch_size])
        logits = model.predict_on_batch(labels)
        total += float(np.sum(keras.ops.convert_to_numpy(model.nats(labels, logits)), dtype=float))
    return total


def train(
    model: LstmLanguageModel,
    sentences: Sequence[Sequence[int]],
    config: LstmTrainingConfig,
    after_epoch: Callable[[int, float], None] = lambda epoch, perplexity: None,
    verbose: int | str = 0,
) -> list[float]:
    """Trains a model.

    Args:
        model: new, or to be trained further.
        sentences: labels of each.
        config: how.
        after_epoch: told the number of an epoch, from 1, and the perplexity in it.
        verbose: of Keras' progress bar.

    Returns:
        Perplexity of a label in each epoch, as the mean over batches.
    """
    batches = SentenceBatches(sentences, config.batch_size, config.seed)
    steps = len(batches) * config.epochs
    schedule = warmup_cosine(config.learning_rate, max(1, min(200, steps // 10)), steps)
    model.compile(
        keras.optimizers.Adam(schedule, global_clipnorm=config.clip_norm),
        jit_compile=config.jit_compile,
    )
    told = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: after_epoch(epoch + 1, math.exp(logs["loss"]))
    )
    history = model.fit(
        batches, epochs=config.epochs, shuffle=False, verbose=verbose, callbacks=[told]
    )
    return [math.exp(loss) for loss in history.history["loss"]]
