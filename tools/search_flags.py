"""The flags of verbs that search: `add_search_arguments`, then `search_from`."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from asr_qat.runtime.search.config import GREEDY, STRATEGIES, SearchConfig

from .fusion_flags import add_fusion_arguments, scorers_from


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """A search, and what it listens to beside the model."""

    config: SearchConfig = GREEDY
    scorers_for: Callable[[Sequence[str]], list[Any]] = lambda pieces: []  # of a file's pieces
    name: str = "greedy"  # for people


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the search."""
    group = parser.add_argument_group("search", "see docs/decoding.md")
    group.add_argument(
        "--search", choices=STRATEGIES, default=STRATEGIES[0], help="strategy (default greedy)"
    )
    group.add_argument("--beam", type=int, help="hypotheses kept (default 4)")
    group.add_argument("--nbest", type=int, help="transcripts given, at most (default 1)")
    group.add_argument(
        "--blank-penalty", type=float, help="nats by which labels are favoured (default 0)"
    )
    group.add_argument(
        "--max-symbols", type=int, help="labels in a frame, at most (default: as the file says)"
    )
    group.add_argument(
        "--expansion-beta", type=int, help="adaptive: labels tried beyond the beam (default 2)"
    )
    group.add_argument(
        "--expansion-gamma",
        type=float,
        help="adaptive: nats that labels may be below the likeliest (default 2.3)",
    )
    group.add_argument(
        "--length-power",
        type=float,
        help="transcripts rank by total / labels ** this at the end (default 0)",
    )
    add_fusion_arguments(parser)


def settings_from(args: argparse.Namespace) -> SearchSettings:
    """The search with the language models and phrases that the arguments ask for.

    Raises:
        ValueError: as `search_from`.
    """
    config = search_from(args)
    fused = [
        f"{name} {Path(path).name}"
        for name in ("lm", "source_lm", "phrases")
        if (path := getattr(args, name))
    ]
    width = [str(config.beam)] if config.strategy in _BEAMS else []
    name = ", ".join([" ".join([config.strategy, *width]), *fused]).replace("_", " ")
    return SearchSettings(config=config, scorers_for=partial(scorers_from, args), name=name)


def search_from(args: argparse.Namespace) -> SearchConfig:
    """The search that the arguments ask for.

    Raises:
        ValueError: an argument is out of its range, or of no matter to the strategy.
    """
    names = [field.name for field in dataclasses.fields(SearchConfig) if field.name != "strategy"]
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    for name, strategies in _BELONGS.items():
        if name in given and args.search not in strategies:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{flag} {given[name]} is of no matter to --search {args.search}; expected "
                f"--search {' or '.join(strategies)}"
            )
    return SearchConfig(strategy=args.search, **given)


_BEAMS = STRATEGIES[1:]
# The strategies that an argument matters to, where it does not to all.
_BELONGS = {
    "beam": _BEAMS,
    "nbest": _BEAMS,
    "length_power": _BEAMS,
    "expansion_beta": ("adaptive",),
    "expansion_gamma": ("adaptive",),
    "max_symbols": ("greedy", "time_synchronous", "adaptive"),
}
