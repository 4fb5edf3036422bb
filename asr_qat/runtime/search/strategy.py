"""The strategy that a configuration asks for."""

from typing import Protocol

from .adaptive import Adaptive
from .config import SearchConfig
from .frame import Frame
from .greedy import Greedy
from .hypothesis import Beam
from .modified import Modified
from .time_synchronous import TimeSynchronous


class Strategy(Protocol):
    """Decides which hypotheses live on. It holds nothing of an utterance."""

    def __call__(self, beam: Beam, frame: Frame) -> Beam:
        """The hypotheses after a frame, likeliest first; never none."""


def make_strategy(config: SearchConfig, max_symbols: int) -> Strategy:
    """The strategy of a configuration; `max_symbols` is the model's, if that has none."""
    most = config.max_symbols or max_symbols
    if config.strategy == "modified":
        return Modified(beam=config.beam)
    if config.width == 1:
        return Greedy(max_symbols=most)
    if config.strategy == "time_synchronous":
        return TimeSynchronous(beam=config.beam, max_symbols=most)
    return Adaptive(
        beam=config.beam,
        max_symbols=most,
        expansion_beta=config.expansion_beta,
        expansion_gamma=config.expansion_gamma,
    )
