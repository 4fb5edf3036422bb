"""The search of one utterance, frame by frame, by any strategy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .config import SearchConfig
from .decoder import Predictions, TransducerDecoder
from .frame import Frame
from .hypothesis import Hypothesis, Token
from .prefix import Prefix, common
from .scorer import LabelScorer
from .strategy import make_strategy


class Found(NamedTuple):
    """One of the likeliest label sequences."""

    tokens: list[Token]
    total: float  # what hypotheses are compared by, in nats
    acoustic: float  # log-probability by the transducer, in nats
    scorers: tuple[float, ...]  # what each scorer added, in nats


class Search:
    """Holds the hypotheses of an utterance from frame to frame.

    Attributes:
      frame: index of the next frame.
      settled: the labels that will not change any more, because all hypotheses share them. (They
        may differ in their times.)
    """

    def __init__(
        self,
        decoder: TransducerDecoder,
        config: SearchConfig,
        max_symbols: int,
        scorers: Sequence[LabelScorer] = (),
        first_frame: int = 0,
    ):
        """Starts an utterance.

        Args:
          decoder: of the model.
          config: which hypotheses are kept.
          max_symbols: labels in a frame, at most, if `config` does not say.
          scorers: what adds to the scores of labels.
          first_frame: index of the first frame.
        """
        self._joint, self._config = decoder.joint, config
        self._strategy = make_strategy(config, max_symbols)
        self._root = Prefix.root(Predictions(decoder), tuple(scorers), config.blank_penalty)
        self._beam = [Hypothesis(self._root, 0.0, ())]
        self._finished = False
        self.frame = first_frame
        self.settled: list[int] = []

    def advance(self, encoded: np.ndarray) -> None:
        """Searches further frames: encoded float32 [frames, dim]."""
        for vector in encoded:
            frame = Frame(self._joint, vector, self.frame, self._config.blank_penalty)
            self._beam = self._strategy(self._beam, frame)
            self.frame += 1
            self._settle()

    def finish(self) -> None:
        """Ends the utterance: the scorers add what its end is worth, hypotheses rank anew."""
        self._finished = True
        self._beam.sort(key=self._rank, reverse=True)
        self.settled = [token.label for token in self.tokens]

    def _settle(self) -> None:
        root = common((hypothesis.prefix for hypothesis in self._beam), self._root)
        if root is not self._root:
            self.settled += root.since(self._root)
            root.become_root()
            self._root = root

    @property
    def predicted(self) -> np.ndarray:
        """The prediction [1, dim] after the tokens."""
        return self._beam[0].prefix.predicted

    @property
    def tokens(self) -> list[Token]:
        """Of the best hypothesis so far."""
        return self._tokens_of(self._beam[0])

    def _tokens_of(self, hypothesis: Hypothesis) -> list[Token]:
        labels = self.settled[: self._root.length] + hypothesis.prefix.since(self._root)
        return list(map(Token, labels, hypothesis.frames))

    def nbest(self) -> list[Found]:
        """The likeliest label sequences so far, the best first."""
        return [self._found(hypothesis) for hypothesis in self._beam[: self._config.nbest]]

    def _found(self, hypothesis: Hypothesis) -> Found:
        added, total = hypothesis.prefix.added, hypothesis.total
        if self._finished:
            finals = hypothesis.prefix.finals()
            added = tuple(map(sum, zip(added, finals, strict=True)))
            total += sum(finals)
        return Found(self._tokens_of(hypothesis), total, hypothesis.log_prob, added)

    def _rank(self, hypothesis: Hypothesis) -> float:
        total = hypothesis.total + sum(hypothesis.prefix.finals())
        return total / max(1, hypothesis.prefix.length) ** self._config.length_power
