"""How well a language model predicts text."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from asr_qat.runtime.search.ngram import NgramModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Perplexity:
    """What a model says of text. The end of a sentence counts as a token, and as a word."""

    nats: float  # minus log probability of the whole text, with unknown words as ``<unk>``
    unknown_nats: float  # of these, of unknown words
    tokens: int  # pieces or words, and ends
    words: int  # and ends
    unknown: int  # tokens that the model does not know

    @property
    def per_token(self) -> float:
        """Perplexity of a token, unknown ones left out."""
        known = self.tokens - self.unknown
        return math.exp((self.nats - self.unknown_nats) / known) if known else math.nan

    @property
    def per_word(self) -> float:
        """Perplexity of a word, with what unknown tokens cost as ``<unk>``."""
        return math.exp(self.nats / self.words)

    def to_dict(self) -> dict[str, Any]:
        """Of JSON: what was counted, and both perplexities."""
        found = {"per_token": self.per_token, "per_word": self.per_word}
        return dataclasses.asdict(self) | found


def perplexity(model: NgramModel, sentences: Iterable[Sequence[str]], words: int) -> Perplexity:
    """Scores text.

    Args:
        model: of pieces or of words.
        sentences: tokens of each.
        words: how many there are in all.
    """
    nats = unknown_nats = 0.0
    tokens = unknown = ends = 0
    for sentence in sentences:
        context = model.start()
        for token in sentence:
            score, context = model.step(context, token)
            nats -= score
            tokens += 1
            if token not in model:
                unknown_nats, unknown = unknown_nats - score, unknown + 1
        nats -= model.end(context)
        ends += 1
    return Perplexity(
        nats=nats,
        unknown_nats=unknown_nats,
        tokens=tokens + ends,
        words=words + ends,
        unknown=unknown,
    )
