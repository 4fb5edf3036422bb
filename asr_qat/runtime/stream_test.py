"""Streams that keep several hypotheses. `recognizer_test.py` has the greedy ones."""

import numpy as np
import pytest

from asr_qat.export.testing import write_tiny_recognizer
from asr_qat.runtime.recognizer import Recognizer
from asr_qat.runtime.search.config import GREEDY, SearchConfig
from asr_qat.runtime.transcript import words_taken_back

BEAMS = [
    SearchConfig(strategy=strategy, beam=4, nbest=4, blank_penalty=1.0)
    for strategy in ("time_synchronous", "modified", "adaptive")
]


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    return Recognizer(write_tiny_recognizer(tmp_path_factory.mktemp("tiny") / "tiny.tflite"))


def noise(seed, count=12000):
    return (0.3 * np.random.default_rng(seed).normal(size=count)).astype(np.float32).clip(-1, 1)


class Favourite:
    """Likes one label, and the end of the utterance after it."""

    def __init__(self, label, labels):
        self.added = np.zeros(labels, np.float32)
        self.added[label] = 2.0

    def start(self):
        return 0

    def scores(self, state):
        return self.added

    def advance(self, state, label):
        return label

    def final(self, state):
        return float(self.added[state])


@pytest.mark.parametrize("search", BEAMS, ids=lambda search: search.strategy)
def test_interleaved_blocks_of_any_size_give_the_same(recognizer, search):
    """The streams share an interpreter; a beam goes on from states of its own."""
    audio, rng = [noise(0), noise(1)], np.random.default_rng(0)
    expected = [recognizer.nbest(samples, search) for samples in audio]
    streams, positions = [recognizer.stream(search=search) for _ in audio], [0, 0]
    while min(positions) < len(audio[0]):
        i = int(rng.integers(2))
        size = int(rng.integers(0, 3000))
        streams[i].accept(audio[i][positions[i] : positions[i] + size])
        positions[i] += size
    assert [stream.finish() for stream in streams] == [nbest[0].text for nbest in expected]
    assert [stream.nbest() for stream in streams] == expected
    for nbest in expected:
        assert len(nbest) == 4 and len({tuple(one.labels) for one in nbest}) == 4
        assert nbest[0].words and [word.text for word in nbest[0].words] == nbest[0].text.split()
        for one in nbest:
            assert one.total == pytest.approx(one.acoustic + len(one.labels))


def test_what_is_stable_stays_and_what_is_taken_back_is_counted(recognizer):
    taken = 0
    for search in (GREEDY, *BEAMS):
        for seed in range(4):
            samples = noise(seed)
            stream = recognizer.stream(search=search)
            shown, stable, revised = "", "", 0
            for start in range(0, len(samples), 1280):
                text = stream.accept(samples[start : start + 1280])
                revised += words_taken_back(shown, text)
                assert stream.stable_text.startswith(stable) and text.startswith(stable)
                shown, stable = text, stream.stable_text
            final = stream.finish()
            assert final.startswith(stable) and stream.stable_text == final == stream.text
            assert stream.revised_words == revised + words_taken_back(shown, final)
            assert stream.revised_words == 0 or search != GREEDY
            taken += stream.revised_words
    assert taken > 0


@pytest.mark.parametrize("search", [GREEDY, *BEAMS], ids=lambda search: search.strategy)
def test_scorers_have_their_say(recognizer, search):
    samples, label = noise(3), recognizer.pieces.index("c")
    scorer = Favourite(label, len(recognizer.pieces))
    plain = recognizer.transcribe(samples, search)
    assert recognizer.transcribe(samples, search, [scorer]).count("c") > plain.count("c")
    for one in recognizer.nbest(samples, search, [scorer]):
        expected = 2.0 * (one.labels.count(label) + (one.labels[-1] == label))
        assert one.scorers == (pytest.approx(expected),)


def test_a_scorer_of_another_vocabulary_is_refused(recognizer):
    with pytest.raises(ValueError, match=r"Favourite scores labels \[4\], expected \[7\]"):
        recognizer.stream(scorers=[Favourite(1, 4)])
