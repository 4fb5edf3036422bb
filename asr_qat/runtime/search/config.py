"""How a transducer is searched: the choices of a user."""

import math
from dataclasses import dataclass

STRATEGIES = ("greedy", "time_synchronous", "modified", "adaptive")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The search of a transducer; by default greedy.

    All alignments of an utterance have the same number of blanks, one a frame, so that a penalty on
    blanks alone would change nothing. `blank_penalty` is added to every label instead: greedy and
    modified search choose as if it were taken off the blank.

    Raises:
      ValueError: a field is out of its range.
    """

    strategy: str = "greedy"  # or "time_synchronous", "modified", "adaptive"
    beam: int = 4  # hypotheses kept after a frame; 1: greedy search, which keeps one anyway
    nbest: int = 1  # transcripts given at the end, at most
    blank_penalty: float = 0.0  # nats by which every label is favoured over the blank
    max_symbols: int | None = None  # labels in a frame, at most; None: as the model's file says
    expansion_beta: int = 2  # adaptive: labels tried after a hypothesis, beyond the beam
    expansion_gamma: float = 2.3  # adaptive: nats that they may be below the likeliest one
    length_power: float = 0.0  # at the end, hypotheses rank by total / labels ** length_power

    def __post_init__(self):
        """Checks the ranges."""
        if self.strategy not in STRATEGIES:
            raise ValueError(
                f"strategy: received {self.strategy!r}, expected one of {list(STRATEGIES)}"
            )
        for name, least in (("beam", 1), ("nbest", 1), ("max_symbols", 1), ("expansion_beta", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be >= {least}, received {value}")
        if self.nbest > self.width:
            raise ValueError(
                f"nbest: received {self.nbest}, expected at most the {self.width} hypotheses that "
                f"the search keeps"
            )
        for name in ("blank_penalty", "length_power"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, received {getattr(self, name)}")
        if not self.expansion_gamma >= 0:
            raise ValueError(f"expansion_gamma must be >= 0, received {self.expansion_gamma}")

    @property
    def width(self) -> int:
        """Hypotheses kept after a frame."""
        return 1 if self.strategy == "greedy" else self.beam


GREEDY = SearchConfig()
