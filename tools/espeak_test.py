import importlib.util

import numpy as np
import pytest

from asr_qat.tools import espeak

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)


def test_speaks():
    samples, rate = espeak.synthesize("one two three")
    assert rate == 22050 and samples.dtype == np.float32
    assert 0.5 < len(samples) / rate < 3.0
    assert 0.005 < np.sqrt(np.mean(samples**2)) < 0.3
    assert np.abs(samples).max() < 1.0


def test_arguments_are_heard():
    plain, _ = espeak.synthesize("seven")
    for change in (
        {"voice": "en-gb-scotland"},
        {"variant": "f2"},
        {"pitch": 80},
        {"pitch_range": 0},
        {"amplitude": 10},
    ):
        changed, _ = espeak.synthesize("seven", **change)
        assert len(changed) != len(plain) or not np.array_equal(changed, plain), change
    slow, _ = espeak.synthesize("seven seven", speed=100)
    fast, _ = espeak.synthesize("seven seven", speed=250)
    assert len(slow) > 1.5 * len(fast)
    assert len(espeak.synthesize("one two", word_gap=20)[0]) > len(espeak.synthesize("one two")[0])


@pytest.mark.parametrize("variant", ["f1", "grandma", "aunty", "Alicia", "sandro"])
def test_no_utterance_depends_on_those_before_it(variant):
    first, _ = espeak.synthesize("nine", variant=variant)
    espeak.synthesize("zero one two", variant="RicishayMax", pitch=10)
    again, _ = espeak.synthesize("nine", variant=variant)
    np.testing.assert_array_equal(first, again)


def test_lists():
    assert {"en-us", "en-gb-scotland", "en"} <= set(espeak.list_voices())
    assert {"f1", "m1", "klatt"} <= set(espeak.list_variants())
    assert espeak.list_voices("de") == ["de"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"voice": "xx-yy"}, "no voice 'xx-yy'"),
        ({"variant": "nobody"}, "no variant 'nobody'"),
        ({"speed": 20}, "speed in 80..450, got 20"),
        ({"pitch": 100}, "pitch in 0..99"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(espeak.EspeakError, match=message):
        espeak.synthesize("one", **arguments)
    assert espeak.synthesize("one")[1] == 22050


def test_without_espeak(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(espeak.EspeakError, match=r"pip install 'asr_qat\[demo\]'"):
        espeak.synthesize("one")
