"""Words that the model recognises after each epoch, on recordings that are held out."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from absl import logging
from keras import ops

from asr_qat.backend import compiled_for
from asr_qat.data.audio import SAMPLE_RATE, AudioError, load_audio
from asr_qat.data.manifest import Utterance
from asr_qat.data.tokenizer import Tokenizer
from asr_qat.decoding.transcribe import decoder
from asr_qat.metrics.wer import count_errors, sum_counts
from asr_qat.training.averaging import assign_values, swap_in_averages

BATCH = 16  # utterances decoded together


def choose(utterances: Sequence[Utterance], count: int, longest: float) -> list[Utterance]:
    """At most ``count`` of the utterances, evenly over their order; the same every time.

    Args:
        utterances: to choose from.
        count: how many.
        longest: seconds; longer ones are left out, because they would set the shape for all.
    """
    fitting = [u for u in utterances if u.duration <= longest]
    if len(fitting) <= count:
        return fitting
    return [fitting[i * len(fitting) // count] for i in range(count)]


def make_decoder(model: Any) -> Callable[[Any, Any], Any]:
    """Greedy search by the model's last pass, compiled once; weights may change between calls.

    Returns:
        A function of audio float32 ``[batch, samples]`` and lengths int32 ``[batch]`` (samples)
        that gives labels int32 ``[batch, most]`` and their counts int32 ``[batch]``.
    """
    decode = decoder(model)
    return compiled_for(model, lambda audio, lengths: decode(audio, lengths)[-1])


class DevSample(keras.callbacks.Callback):
    """Logs ``wer``, the word error rate of greedy search on a fixed sample, after each epoch.

    With the optimizer's moving averages of the weights, where it keeps them.

    Args:
        utterances: the sample, see `choose`; recordings that cannot be read are left out.
        tokenizer: writes labels as text.
        tail_ms: silence put after each recording.

    Attributes:
        utterances: those of the sample that can be read.
        transcripts: of the last epoch: pairs of what was said and what was recognised.
    """

    def __init__(self, utterances: Sequence[Utterance], tokenizer: Tokenizer, tail_ms: int = 320):
        super().__init__()
        self.tokenizer, self.tail = tokenizer, tail_ms * SAMPLE_RATE // 1000
        self.utterances: list[Utterance] = []
        self.waves: list[np.ndarray] = []
        for utterance in utterances:
            try:
                self.waves.append(load_audio(utterance.audio_filepath))
            except AudioError as error:
                logging.warning("left out of the WER sample: %s", error)
            else:
                self.utterances.append(utterance)
        self.transcripts: list[tuple[str, str]] = []
        self._decode: Callable[[Any, Any], Any] | None = None

    def set_model(self, model):
        """Forgets what was compiled for another model, or for other weights of this one."""
        super().set_model(model)
        self._decode = None

    def on_epoch_end(self, epoch, logs=None):
        """Transcribes the sample."""
        averages = getattr(self.model.optimizer, "use_ema", False)
        kept = swap_in_averages(self.model) if averages else None
        hypotheses = self.transcribe()
        if kept is not None:
            assign_values(self.model.trainable_variables, kept)
        references = [utterance.text for utterance in self.utterances]
        self.transcripts = list(zip(references, hypotheses, strict=True))
        if logs is not None and hypotheses:
            logs["wer"] = sum_counts(count_errors(references, hypotheses)).wer

    def transcribe(self) -> list[str]:
        """What the model recognises now."""
        if self._decode is None:
            self._decode = make_decoder(self.model)
        frame = self.model.frame_samples
        lengths = [-(-(len(wave) + self.tail) // frame) * frame for wave in self.waves]
        texts: list[str] = []
        for start in range(0, len(self.waves), BATCH):
            # One shape for all, because each is compiled.
            audio = np.zeros((BATCH, max(lengths)), np.float32)
            counts = np.zeros(BATCH, np.int32)
            rows = range(start, min(start + BATCH, len(self.waves)))
            for row, i in enumerate(rows):
                audio[row, : len(self.waves[i])] = self.waves[i]
                counts[row] = lengths[i]
            labels, ends = (ops.convert_to_numpy(x) for x in self._decode(audio, counts))
            texts += [self.tokenizer.decode(labels[r, : ends[r]]) for r in range(len(rows))]
        return texts
