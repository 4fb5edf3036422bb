"""Presets have the sizes that publications give."""

import gc

import pytest

from asr_qat.models.presets import PRESETS, PUBLISHED, preset
from asr_qat.models.transducer import Transducer


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_number_of_parameters(name):
    published = PUBLISHED[name]
    pieces = ["<blank>", *(chr(0x4E00 + i) for i in range(published.labels - 1))]
    count = Transducer(preset(name), {"pieces": pieces}).count_params()
    gc.collect()
    assert count == pytest.approx(published.parameters, rel=0.02)


def test_presets_are_called_as_their_functions():
    assert all(name == function.__name__ for name, function in PRESETS.items())
    with pytest.raises(ValueError, match="unknown preset 'huge'; expected one of: nano, "):
        preset("huge")
