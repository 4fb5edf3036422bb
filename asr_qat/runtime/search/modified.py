"""Modified beam search: every frame emits the blank or one label, nothing after it.

The lattice of icefall's ``modified_beam_search``, whose transducers are trained for it; others
lose labels that share a frame.
"""

from dataclasses import dataclass

from .expansion import candidates, emitted, floor
from .frame import Frame
from .hypothesis import Beam, Hypothesis, likeliest, merge
from .prefix import Prefix


@dataclass(frozen=True, kw_only=True)
class Modified:
    """One symbol a frame."""

    beam: int  # hypotheses kept after a frame

    def __call__(self, beam: Beam, frame: Frame) -> Beam:
        """The hypotheses after a frame."""
        kept: dict[Prefix, Hypothesis] = {}
        for hypothesis in beam:
            merge(kept, frame.stay(hypothesis))
        least = floor(kept.values(), self.beam)
        found = [c for h in beam for c in candidates(h, frame, self.beam, least)]
        for hypothesis in emitted(found, frame, self.beam):
            merge(kept, hypothesis)
        return likeliest(kept.values(), self.beam)
