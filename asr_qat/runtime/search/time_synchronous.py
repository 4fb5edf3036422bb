"""Time-synchronous beam search: all that may happen in a frame, then the next one.

    ended = {}, live = beam
    repeat `max_symbols` + 1 times:
        ended += live after the blank, equal label sequences merged
        live = the `beam` likeliest of live after a label
    beam = the `beam` likeliest of ended

G. Saon, Z. Tuske, K. Audhkhasi, "Alignment-Length Synchronous Decoding for RNN Transducer",
ICASSP 2020, its time-synchronous search; after A. Graves, arXiv 1211.3711. Here a hypothesis that
cannot enter the beam any more is left out early.
"""

import math
from collections.abc import Container
from dataclasses import dataclass

from .expansion import candidates, emitted, floor
from .frame import Frame
from .hypothesis import Beam, Hypothesis, likeliest, merge
from .prefix import Prefix


@dataclass(frozen=True, kw_only=True)
class TimeSynchronous:
    """Every alignment with at most so many labels in a frame, as far as the beam is wide."""

    beam: int  # hypotheses kept after a frame
    max_symbols: int  # labels in a frame, at most

    def __call__(self, beam: Beam, frame: Frame) -> Beam:
        """The hypotheses after a frame."""
        return expand(beam, frame, self.beam, self.max_symbols, most=self.beam)


def expand(
    live: Beam,
    frame: Frame,
    beam: int,
    max_symbols: int,
    most: int,
    gamma: float = math.inf,
    known: Container[Prefix] = (),
) -> Beam:
    """The hypotheses after a frame.

    Args:
      live: those before it, likeliest first.
      frame: the frame.
      beam: hypotheses kept.
      max_symbols: labels in a frame, at most.
      most: labels tried after a hypothesis, at most.
      gamma: nats that they may be below the likeliest one.
      known: label sequences that those of `live` do not become, because they have.
    """
    ended: dict[Prefix, Hypothesis] = {}
    least = -math.inf
    for symbols in range(max_symbols + 1):
        skipped = () if symbols else known  # later ones come from others than those of `live`
        found = []
        for hypothesis in live:
            if hypothesis.total <= least:
                break
            merge(ended, frame.stay(hypothesis))
            if symbols < max_symbols:
                found += candidates(hypothesis, frame, most, least, gamma, skipped)
        least = floor(ended.values(), beam)
        live = emitted([c for c in found if c.total > least], frame, beam)
        if not live:
            break
    return likeliest(ended.values(), beam)
