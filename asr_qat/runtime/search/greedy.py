"""Greedy search: the likeliest label at every step.

    for each frame:  repeat at most `max_symbols` times:
        k = argmax joint(frame, predicted);  stop at the blank;  emit k;  predicted = predict(k)

A. Graves, "Sequence Transduction with Recurrent Neural Networks", arXiv 1211.3711.
"""

from dataclasses import dataclass

from .decoder import BLANK
from .frame import Frame
from .hypothesis import Beam


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Keeps one hypothesis. After the last label that a frame may emit, no blank is asked for."""

    max_symbols: int  # labels in a frame, at most

    def __call__(self, beam: Beam, frame: Frame) -> Beam:
        """The hypothesis after a frame."""
        (hypothesis,) = beam
        for _ in range(self.max_symbols):
            label = int(frame.step(hypothesis.prefix).fused.argmax())
            if label == BLANK:
                return [frame.stay(hypothesis)]
            hypothesis = frame.emit(hypothesis, label)
        return [hypothesis]
