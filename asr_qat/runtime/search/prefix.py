"""Label sequences as a tree, and what the networks and scorers say after each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .decoder import BLANK, NetworkState, Predictions
from .scorer import LabelScorer


class Prefix:
    """A node of the tree: one sequence of labels. Equal sequences are one object.

    What depends on the labels alone is here, computed once when it is first asked for.

    Attributes:
      label: the last one; the blank at the root.
      parent: the sequence without it; None at the root.
      length: labels since the start of the utterance.
      children: by their last label.
      added: what each scorer added so far, in nats.
      bonus: their sum, and what every label is worth.
    """

    __slots__ = (
        "_after",
        "_before",
        "_label_bonus",
        "_predicted",
        "_predictions",
        "_scorers",
        "_scores",
        "_state",
        "added",
        "bonus",
        "children",
        "label",
        "length",
        "parent",
    )

    def __init__(
        self,
        predictions: Predictions,
        scorers: Sequence[LabelScorer],
        label_bonus: float,
        parent: Prefix | None,
        label: int,
    ):
        """Use `root` and `child`."""
        self._predictions, self._scorers = predictions, scorers
        self._label_bonus = label_bonus
        self.parent, self.label = parent, label
        self.children: dict[int, Prefix] = {}
        self._predicted: np.ndarray | None = None
        self._scores: np.ndarray | None = None
        self._state: NetworkState = None if parent is None else parent._state
        self._before: list[Any] | None = None if parent is None else parent.scorer_states
        self._after: list[Any] | None = None
        self.length: int = 0 if parent is None else parent.length + 1
        self.added: tuple[float, ...] = (0.0,) * len(scorers)
        if parent is not None and scorers:
            pairs = zip(scorers, parent.scorer_states, parent.added, strict=True)
            self.added = tuple(
                before + float(scorer.scores(state)[label]) for scorer, state, before in pairs
            )
        self.bonus = sum(self.added) + label_bonus * self.length

    @classmethod
    def root(
        cls,
        predictions: Predictions,
        scorers: Sequence[LabelScorer] = (),
        label_bonus: float = 0.0,
    ) -> Prefix:
        """The sequence of no labels."""
        return cls(predictions, scorers, label_bonus, None, BLANK)

    def child(self, label: int) -> Prefix:
        """The sequence with one label more; `predicted` must have been asked for before."""
        found = self.children.get(label)
        if found is None:
            found = Prefix(self._predictions, self._scorers, self._label_bonus, self, label)
            self.children[label] = found
        return found

    @property
    def predicted(self) -> np.ndarray:
        """The prediction [1, dim] after these labels."""
        if self._predicted is None:
            # Until here `_state` is the one before the last label.
            self._predicted, self._state = self._predictions.after(self.label, self._state)
        return self._predicted

    @property
    def scorer_states(self) -> list[Any]:
        """Of each scorer, after these labels."""
        if self._after is None:
            if self._before is None:
                self._after = [scorer.start() for scorer in self._scorers]
            else:
                pairs = zip(self._scorers, self._before, strict=True)
                self._after = [scorer.advance(state, self.label) for scorer, state in pairs]
        return self._after

    @property
    def scores(self) -> np.ndarray | None:
        """What the scorers add for each label that may follow, [labels]; None without scorers."""
        if self._scores is None and self._scorers:
            pairs = zip(self._scorers, self.scorer_states, strict=True)
            parts = [scorer.scores(state) for scorer, state in pairs]
            self._scores = parts[0] if len(parts) == 1 else np.sum(parts, axis=0)
        return self._scores

    def finals(self) -> tuple[float, ...]:
        """What each scorer adds if the utterance ends here."""
        pairs = zip(self._scorers, self.scorer_states, strict=True)
        return tuple(float(scorer.final(state)) for scorer, state in pairs)

    def since(self, root: Prefix) -> list[int]:
        """The labels after an ancestor."""
        labels = []
        prefix = self
        while prefix is not root:
            labels.append(prefix.label)
            if prefix.parent is None:
                raise ValueError("this prefix does not descend from that root")
            prefix = prefix.parent
        return labels[::-1]

    def become_root(self) -> None:
        """Cuts the tree above: what does not descend from here is let go."""
        ancestor, self.parent = self.parent, None
        while ancestor is not None:
            above, ancestor.parent = ancestor.parent, None
            ancestor.children.clear()
            ancestor = above


def common(prefixes: Iterable[Prefix], root: Prefix) -> Prefix:
    """The longest sequence that all begin with; they descend from `root`."""
    first, *others = prefixes
    for other in others:
        a, b = first, other
        while a is not b:
            if a is root or b is root:
                return root
            if a.length >= b.length:
                a = a.parent  # type: ignore[assignment]  # only the root has none
            else:
                b = b.parent  # type: ignore[assignment]
        first = a
    return first
