"""Back-off n-gram models as sorted arrays: the probability of a word, or of all, in a context.

    log p(w | c) = log p of the n-gram "c w", if the model has it,
                   else backoff(c) + log p(w | c without its first word)

S. Katz, "Estimation of probabilities from sparse data", 1987. backoff(c) is 0 for unknown c.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BEGIN, END, UNKNOWN = "<s>", "</s>", ("<unk>", "<UNK>")

Context = tuple[int, ...]  # ids of the last words, the longest that the model knows


@dataclass(frozen=True, kw_only=True)
class Table:
    """All n-grams of one length, sorted by `keys`; unigrams are all words, in order."""

    keys: np.ndarray  # int64: index, in the table before, of all but the last word * words + last
    log_probs: np.ndarray  # nats
    backoffs: np.ndarray  # nats


class BackoffModel:
    """An n-gram model with back-off weights.

    Attributes:
      vocabulary: its words, by id.
      tables: of n-grams of 1, 2, … words.
    """

    def __init__(self, vocabulary: Sequence[str], tables: Sequence[Table]):
        """Takes arrays as `arpa.read_arpa` and `kneser_ney.estimate` make them."""
        self.vocabulary, self.tables = list(vocabulary), list(tables)
        self._ids = {word: i for i, word in enumerate(self.vocabulary)}
        self._unknown = next((self._ids[word] for word in UNKNOWN if word in self._ids), None)
        words = [i for word, i in self._ids.items() if word != BEGIN]
        self._lowest = float(tables[0].log_probs[words].min())

    @property
    def order(self) -> int:
        """Words of the longest n-grams."""
        return len(self.tables)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def find(self, words: Context) -> int | None:
        """Where an n-gram is in its table; None: the model does not have it."""
        index = words[0]
        for table, word in zip(self.tables[1:], words[1:], strict=False):
            key = index * len(self.vocabulary) + word
            at = int(table.keys.searchsorted(key))
            if at == len(table.keys) or table.keys[at] != key:
                return None
            index = at
        return index

    def shortened(self, words: Context) -> Context:
        """The last of these words, as many as the model can tell apart."""
        words = words[max(0, len(words) - self.order + 1) :]
        while words and self.find(words) is None:
            words = words[1:]
        return words

    def log_probs(self, context: Context) -> np.ndarray:
        """Nats of every word of the vocabulary after a context."""
        found = self.tables[0].log_probs.copy()
        size = len(self.vocabulary)
        for length in range(1, len(context) + 1):
            node = self.find(context[-length:])
            if node is None:
                continue
            found += self.tables[length - 1].backoffs[node]
            table = self.tables[length]
            first, last = table.keys.searchsorted([node * size, (node + 1) * size])
            found[table.keys[first:last] - node * size] = table.log_probs[first:last]
        return found

    def log_prob(self, context: Context, word: int) -> float:
        """Nats of one word after a context."""
        backoff = 0.0
        for start in range(len(context)):
            index = self.find((*context[start:], word))
            if index is not None:
                return backoff + float(self.tables[len(context) - start].log_probs[index])
            node = self.find(context[start:])
            if node is not None:
                backoff += float(self.tables[len(context) - start - 1].backoffs[node])
        return backoff + float(self.tables[0].log_probs[word])

    def start(self) -> Context:
        """The context of a sentence's first word."""
        return (self._ids[BEGIN],) if BEGIN in self._ids and self.order > 1 else ()

    def step(self, context: Context, word: str) -> tuple[float, Context]:
        """Nats of a word after a context, and the context after it.

        A word that the model does not know is ``<unk>``; in a model without that, it has the
        probability of the least likely word, and ends what is remembered.
        """
        index = self._ids.get(word, self._unknown)
        if index is None:
            return self._lowest, ()
        return self.log_prob(context, index), self.shortened((*context, index))

    def end(self, context: Context) -> float:
        """Nats of the end of the sentence; 0 for a model that knows none."""
        return self.log_prob(context, self._ids[END]) if END in self._ids else 0.0

    def scores(self, context: Context, words: Sequence[str]) -> np.ndarray:
        """Nats of each of these words after a context, as `step` scores them."""
        ids = [self._ids.get(word, self._unknown) for word in words]
        found = self.log_probs(context)
        return np.array([self._lowest if i is None else found[i] for i in ids], np.float32)
