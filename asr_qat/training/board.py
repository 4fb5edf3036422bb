"""TensorBoard: Keras' scalars, and what quantization does to each layer."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from asr_qat.quantization import integers
from asr_qat.training.dev_sample import DevSample
from asr_qat.training.pruning import dense_layers

_TRANSCRIPTS = 5  # shown


@dataclasses.dataclass(frozen=True)
class QuantizedWeight:
    """How well a layer's integers stand for its weights."""

    path: str
    error: float  # root mean square of what rounding changes, as a share of that of the weights
    scales: np.ndarray  # float32 [channels]


def quantized_weights(model: keras.Model) -> list[QuantizedWeight]:
    """Every quantized dense layer of a model, as its training step computes it."""
    found = []
    for layer in dense_layers(model):
        if layer.spec.weight is None:
            continue
        kernel = layer.served_kernel()
        scale = integers.weight_scale(kernel, layer.spec.weight)
        codes = integers.weight_codes(kernel, scale, layer.spec.weight)
        rounded = ops.cast(codes, "float32") * scale
        size = float(ops.norm(kernel)) or 1.0
        error = float(ops.norm(kernel - rounded)) / size
        found.append(QuantizedWeight(layer.path, error, ops.convert_to_numpy(scale)))
    return found


class Board(keras.callbacks.TensorBoard):
    """Keras' TensorBoard, with the quantization error and the scales of each layer, and words.

    Scalars: all that callbacks before it put into an epoch's logs, and
    ``quantization_error/<layer>``. Histograms: ``scale/<layer>``. Text: ``transcripts``.

    Args:
        folder: of the logs.
        sample: whose transcripts are shown, or None; it comes before this one.
    """

    def __init__(self, folder: Path, sample: DevSample | None = None):
        super().__init__(folder, write_graph=False)
        self._sample = sample

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the epoch's summaries."""
        super().on_epoch_end(epoch, logs)
        with self._train_writer.as_default():
            for weight in quantized_weights(self.model):
                self.summary.scalar(f"quantization_error/{weight.path}", weight.error, step=epoch)
                self.summary.histogram(f"scale/{weight.path}", weight.scales, step=epoch)
            if self._sample is not None and self._sample.transcripts:
                table = transcript_table(self._sample.transcripts[:_TRANSCRIPTS])
                self.summary.text("transcripts", table, step=epoch)
        self._train_writer.flush()


def transcript_table(transcripts: Sequence[tuple[str, str]]) -> str:
    """What was said and what was recognised, in Markdown."""
    rows = [f"| {_cell(said)} | {_cell(heard)} |" for said, heard in transcripts]
    return "\n".join(["| said | recognised |", "|---|---|", *rows])


def _cell(text):
    return text.replace("|", r"\|") or " "
