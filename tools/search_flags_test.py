"""Flags to a search and back."""

import argparse

import pytest

from asr_qat.runtime.search.config import GREEDY, SearchConfig
from asr_qat.tools.search_flags import add_search_arguments, search_from


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_search_arguments(parser)
    return search_from(parser.parse_args(arguments))


def test_without_flags_it_is_greedy():
    assert parsed() == GREEDY
    assert parsed("--blank-penalty", "0.5") == SearchConfig(blank_penalty=0.5)
    assert parsed("--search", "modified") == SearchConfig(strategy="modified")


def test_every_field_has_a_flag():
    arguments = "--search adaptive --beam 8 --nbest 3 --blank-penalty 1 --max-symbols 2"
    further = "--expansion-beta 1 --expansion-gamma 4 --length-power 0.5"
    assert parsed(*arguments.split(), *further.split()) == SearchConfig(
        strategy="adaptive",
        beam=8,
        nbest=3,
        blank_penalty=1.0,
        max_symbols=2,
        expansion_beta=1,
        expansion_gamma=4.0,
        length_power=0.5,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--nbest 3", "--nbest 3 is of no matter to --search greedy; expected"),
        ("--search modified --max-symbols 3", "--max-symbols 3 .* expected --search greedy or"),
        ("--search modified --expansion-beta 3", "expected --search adaptive"),
        ("--search adaptive --beam 0", "beam must be >= 1, received 0"),
        ("--search adaptive --nbest 5", "nbest: received 5, expected at most the 4"),
        ("--search adaptive --expansion-gamma -1", "expansion_gamma must be >= 0, received -1.0"),
        ("--max-symbols 0", "max_symbols must be >= 1, received 0"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        parsed(*arguments.split())
