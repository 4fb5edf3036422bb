"""Modified adaptive expansion search: few labels are tried, and only those near the likeliest.

J. Kim, Y. Lee, E. Kim, "Accelerating RNN Transducer Inference via Adaptive Expansion Search",
IEEE Signal Processing Letters 27, 2020; the names are ESPnet's and NeMo's.
"""

from dataclasses import dataclass

from .frame import Frame
from .hypothesis import Beam, log_add
from .time_synchronous import expand


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Merges hypotheses with their prefixes first, then expands each as far as it is unsure."""

    beam: int  # hypotheses kept after a frame
    max_symbols: int  # labels in a frame, at most
    expansion_beta: int  # labels tried after a hypothesis, beyond the beam
    expansion_gamma: float  # nats that they may be below the likeliest one

    def __call__(self, beam: Beam, frame: Frame) -> Beam:
        """The hypotheses after a frame."""
        return expand(
            merge_prefixes(beam, frame),
            frame,
            self.beam,
            self.max_symbols,
            most=self.beam + self.expansion_beta,
            gamma=self.expansion_gamma,
            known={hypothesis.prefix for hypothesis in beam},
        )


def merge_prefixes(beam: Beam, frame: Frame) -> Beam:
    """Hypotheses with what those that lack only their last label would add in this frame.

    A chain of them is merged from its shortest on. What is expanded afterwards need not try these
    labels again.
    """
    merged = {hypothesis.prefix: hypothesis for hypothesis in beam}
    for prefix in sorted(merged, key=lambda prefix: prefix.length):
        parent = merged.get(prefix.parent) if prefix.parent is not None else None
        if parent is not None:
            old, new = merged[prefix], frame.emit(parent, prefix.label)
            likelier = new if new.log_prob > old.log_prob else old
            merged[prefix] = likelier._replace(log_prob=log_add(old.log_prob, new.log_prob))
    return sorted(merged.values(), key=lambda hypothesis: hypothesis.total, reverse=True)
