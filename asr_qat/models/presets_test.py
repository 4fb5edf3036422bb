"""Presets have the sizes that publications give."""

import json
import subprocess
import sys

import pytest

from asr_qat.models.presets import PRESETS, PUBLISHED, preset

# In a process of its own, which gives back the memory of a hundred million weights.
COUNT = """
import gc, json
from asr_qat.models.presets import PUBLISHED, preset
from asr_qat.models.transducer import Transducer
counts = {}
for name, published in PUBLISHED.items():
    pieces = ["<blank>", *(chr(0x4E00 + i) for i in range(published.labels - 1))]
    counts[name] = Transducer(preset(name), {"pieces": pieces}).count_params()
    gc.collect()
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def counts():
    run = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_number_of_parameters(name, counts):
    assert counts[name] == pytest.approx(PUBLISHED[name].parameters, rel=0.02)


def test_presets_are_called_as_their_functions():
    assert all(name == function.__name__ for name, function in PRESETS.items())
    with pytest.raises(ValueError, match="unknown preset 'huge'; expected one of: nano, "):
        preset("huge")
