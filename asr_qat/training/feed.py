"""Batches for `fit`, whose shapes Keras is told and does not infer.

Keras looks at the first two batches for the dimensions that vary. That would make the shape of a
batch depend on where a run began; an interrupted run could not end as an uninterrupted one does.
"""

from collections.abc import Iterator
from typing import Any

import keras

from asr_qat.data.pipeline import Batch, SpeechDataset


class Feed:
    """A dataset of `make_dataset(..., pad_second=False)` for `fit` on the active backend.

    Attributes:
        batches: what `fit` takes.
        error: what went wrong while a batch was made; TensorFlow's own message hides it.
    """

    def __init__(self, dataset: SpeechDataset):
        self.dataset = dataset
        self.error: Exception | None = None
        on_tensorflow = keras.backend.backend() == "tensorflow"
        self.batches: Any = self._tensorflow() if on_tensorflow else dataset

    def _tensorflow(self):
        import tensorflow as tf

        source = self.dataset.source
        fixed = len(source.buckets) == 1

        def spec(array):
            sizes = array.shape[1:] if fixed else [None] * (array.ndim - 1)
            return tf.TensorSpec((None, *sizes), array.dtype)

        signature = {name: spec(array) for name, array in source[0].items()}
        batches = tf.data.Dataset.from_generator(self._generate, output_signature=signature)
        options = tf.data.Options()
        # Nothing here is to be tuned, and the end of an iterator waits for the thread that would do
        # it, which may sleep for a minute or longer.
        options.autotune.enabled = False
        # Copies a batch while the step before it runs.
        return batches.prefetch(1).with_options(options)

    def _generate(self) -> Iterator[Batch]:
        try:
            yield from self.dataset
        except Exception as error:
            self.error = error
            raise
