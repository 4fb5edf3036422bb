"""Searches that cannot be."""

import pytest

from asr_qat.runtime.search.config import SearchConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "beam"}, "strategy: received 'beam', expected one of .*'adaptive'"),
        ({"beam": 0}, "beam must be >= 1, received 0"),
        ({"max_symbols": 0}, "max_symbols must be >= 1, received 0"),
        ({"expansion_beta": -1}, "expansion_beta must be >= 0, received -1"),
        ({"expansion_gamma": float("nan")}, "expansion_gamma must be >= 0, received nan"),
        ({"blank_penalty": float("inf")}, "blank_penalty must be finite, received inf"),
        ({"nbest": 2}, "nbest: received 2, expected at most the 1"),
        ({"strategy": "modified", "nbest": 5}, "nbest: received 5, expected at most the 4"),
    ],
)
def test_fields_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**fields)
