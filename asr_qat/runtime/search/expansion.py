"""What the beam searches share: which labels are tried after which hypotheses."""

import heapq
import math
from collections.abc import Container, Iterable
from typing import NamedTuple

import numpy as np

from .frame import Frame
from .hypothesis import Beam, Hypothesis
from .prefix import Prefix


class Candidate(NamedTuple):
    """A hypothesis and a label after it."""

    total: float  # of what it would become
    hypothesis: Hypothesis
    label: int


def floor(kept: Iterable[Hypothesis], beam: int) -> float:
    """The total that a further hypothesis must exceed to be among so many."""
    totals = heapq.nlargest(beam, (hypothesis.total for hypothesis in kept))
    return totals[-1] if len(totals) == beam else -math.inf


def candidates(
    hypothesis: Hypothesis,
    frame: Frame,
    most: int,
    above: float = -math.inf,
    gamma: float = math.inf,
    known: Container[Prefix] = (),
) -> list[Candidate]:
    """The labels worth trying after a hypothesis in a frame.

    Args:
      hypothesis: after which they come.
      frame: in which they are emitted.
      most: so many at most.
      above: the total that each must exceed.
      gamma: nats that each may be below the likeliest, which may be the blank.
      known: label sequences that are not wanted.
    """
    step = frame.step(hypothesis.prefix)
    base = hypothesis.total - step.norm
    labels = step.fused[1:]
    wanted = labels > above - base
    if gamma < math.inf:
        wanted &= labels >= step.fused.max() - gamma
    found = np.flatnonzero(wanted)
    if len(found) > most:
        found = found[np.argpartition(labels[found], len(found) - most)[len(found) - most :]]
    children = hypothesis.prefix.children
    return [
        Candidate(base + float(labels[index]), hypothesis, int(index) + 1)
        for index in found
        if children.get(int(index) + 1) not in known
    ]


def emitted(found: list[Candidate], frame: Frame, beam: int) -> Beam:
    """The likeliest candidates as hypotheses."""
    chosen = heapq.nlargest(beam, found, key=lambda candidate: candidate.total)
    return [frame.emit(candidate.hypothesis, candidate.label) for candidate in chosen]
