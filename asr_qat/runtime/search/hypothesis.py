"""Hypotheses of a search: labels, how likely they are, and when they were emitted."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from typing import NamedTuple

from .prefix import Prefix


class Token(NamedTuple):
    """One emitted label."""

    label: int
    frame: int  # index of the encoder frame that emitted it, from the start of the stream


class Hypothesis(NamedTuple):
    """A label sequence in the beam."""

    prefix: Prefix
    log_prob: float  # of all alignments of it that were searched, in nats
    frames: tuple[int, ...]  # of all its labels, in the likeliest of them

    @property
    def total(self) -> float:
        """With what the scorers added."""
        return self.log_prob + self.prefix.bonus


Beam = list[Hypothesis]  # likeliest first


def log_add(a: float, b: float) -> float:
    """``log(exp(a) + exp(b))``."""
    larger, smaller = (a, b) if a >= b else (b, a)
    return larger if smaller == -math.inf else larger + math.log1p(math.exp(smaller - larger))


def merge(kept: dict[Prefix, Hypothesis], new: Hypothesis) -> None:
    """Adds a hypothesis; to the one with the same labels, if there is one."""
    old = kept.get(new.prefix)
    if old is not None:
        likelier = new if new.log_prob > old.log_prob else old
        new = likelier._replace(log_prob=log_add(old.log_prob, new.log_prob))
    kept[new.prefix] = new


def likeliest(hypotheses: Iterable[Hypothesis], count: int) -> Beam:
    """So many hypotheses of the largest totals, the best first."""
    return heapq.nlargest(count, hypotheses, key=_total)


def _total(hypothesis: Hypothesis) -> float:
    return hypothesis.log_prob + hypothesis.prefix.bonus
