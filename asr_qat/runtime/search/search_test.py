"""The searches against all alignments of tiny random networks."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_qat.runtime.search.config import GREEDY, SearchConfig
from asr_qat.runtime.search.decoder import BLANK
from asr_qat.runtime.search.search import Search

DIM, LABELS, FRAMES, MOST = 4, 3, 3, 2
WIDE = 10_000  # more hypotheses than there are
BEAMS = ("time_synchronous", "modified", "adaptive")


class Decoder:
    """A small random prediction network with a memory of all labels, and a joint."""

    def __init__(self, seed, labels=LABELS, blank_bias=1.0):
        rng = np.random.default_rng(seed)
        self.table = rng.normal(size=(labels, DIM)).astype(np.float32)
        self.output = (2 * rng.normal(size=(DIM, labels))).astype(np.float32)
        self.bias = np.zeros(labels, np.float32)
        self.bias[BLANK] = blank_bias
        self.joints = 0

    def predict(self, label, state):
        memory = self.table[label] + (0 if state is None else 0.7 * state[0])
        return np.tanh(memory)[None], (memory,)

    def joint(self, encoded, predicted):
        self.joints += 1
        return np.tanh(encoded + predicted[0]) @ self.output + self.bias


class Bigrams:
    """Scores labels by the one before; the end by the last one."""

    def __init__(self, seed, weight=1.0):
        table = weight * np.random.default_rng(seed).normal(size=(LABELS, LABELS + 1))
        self.table = table.astype(np.float32)
        self.table[:, BLANK] = 0

    def start(self):
        return 0

    def scores(self, state):
        return self.table[state, :LABELS]

    def advance(self, state, label):
        return label

    def final(self, state):
        return float(self.table[state, LABELS])

    def whole(self, labels):
        before = (0, *labels)
        inside = sum(self.table[pair] for pair in itertools.pairwise(before))
        return float(inside + self.table[before[-1], LABELS])


def sounds(seed, frames=FRAMES):
    return np.random.default_rng(seed + 1).normal(size=(frames, DIM)).astype(np.float32)


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def all_alignments(decoder, encoded, one_symbol=False):
    """Every label sequence's log-probability, summed over its alignments."""
    found: dict[tuple[int, ...], float] = {}

    def go(frame, symbols, labels, log_prob, predicted, state):
        if frame == len(encoded):
            found[labels] = np.logaddexp(found.get(labels, -math.inf), log_prob)
            return
        scores = log_softmax(decoder.joint(encoded[frame], predicted))
        go(frame + 1, 0, labels, log_prob + scores[BLANK], predicted, state)
        if symbols < MOST:
            for label in range(1, len(scores)):
                following = (*labels, label), log_prob + scores[label]
                after = decoder.predict(label, state)
                if one_symbol:
                    go(frame + 1, 0, *following, *after)
                else:
                    go(frame, symbols + 1, *following, *after)

    go(0, 0, (), 0.0, *decoder.predict(BLANK, None))
    return found


def log_probability(decoder, encoded, labels):
    """Of a label sequence by all alignments, with any number of labels in a frame."""
    row = np.full(len(labels) + 1, -np.inf)
    row[0] = 0.0
    for frame in encoded:
        predicted, state = decoder.predict(BLANK, None)
        arrived = -np.inf
        for i in range(len(row)):
            scores = log_softmax(decoder.joint(frame, predicted))
            arrived = np.logaddexp(row[i], arrived)
            row[i] = arrived + scores[BLANK]
            if i < len(labels):
                arrived += scores[labels[i]]
                predicted, state = decoder.predict(labels[i], state)
    return float(row[-1])


def run(decoder, config, encoded, scorers=(), blocks=None, most=MOST):
    search = Search(decoder, config, most, scorers)
    for block in [encoded] if blocks is None else np.split(encoded, np.cumsum(blocks)):
        search.advance(block)
    search.finish()
    return search.nbest()


def labels_of(found):
    return tuple(token.label for token in found.tokens)


@pytest.mark.parametrize("strategy", BEAMS)
@pytest.mark.parametrize("penalty", [0.0, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_every_sequence_with_its_true_probability(strategy, penalty, seed):
    decoder, encoded = Decoder(seed), sounds(seed)
    config = SearchConfig(
        strategy=strategy, beam=WIDE, nbest=WIDE, blank_penalty=penalty, expansion_gamma=1e9
    )
    truth = all_alignments(decoder, encoded, one_symbol=strategy == "modified")
    found = run(decoder, config, encoded)
    totals = [one.total for one in found]
    assert totals == sorted(totals, reverse=True)
    if strategy != "adaptive":  # which adds some with more than MOST labels in a frame
        best = max(truth, key=lambda labels: truth[labels] + penalty * len(labels))
        assert labels_of(found[0]) == best
    assert {labels_of(one) for one in found} == set(truth) and len(found) == len(truth)
    for one in found:
        labels = labels_of(one)
        assert one.total == pytest.approx(one.acoustic + penalty * len(labels))
        if strategy == "adaptive":
            assert one.acoustic > truth[labels] - 1e-4
            assert one.acoustic < log_probability(decoder, encoded, labels) + 1e-4
        else:
            assert one.acoustic == pytest.approx(truth[labels], abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    strategy=st.sampled_from(["time_synchronous", "adaptive"]),
    beam=st.integers(2, 4),
    bias=st.sampled_from([-1.0, 1.0, 3.0]),
)
def test_a_narrow_beam_never_says_more_than_the_truth(seed, strategy, beam, bias):
    decoder, encoded = Decoder(seed, blank_bias=bias), sounds(seed, 8)
    config = SearchConfig(strategy=strategy, beam=beam, nbest=beam)
    for one in run(decoder, config, encoded):
        assert one.total == one.acoustic
        assert one.total < log_probability(decoder, encoded, labels_of(one)) + 1e-3


@pytest.mark.parametrize("strategy", ["time_synchronous", "adaptive"])
def test_wider_beams_find_likelier_sequences(strategy):
    means = []
    for beam in (1, 2, 4, 16):
        config = SearchConfig(strategy=strategy, beam=beam)
        totals = []
        for seed in range(12):
            decoder, encoded = Decoder(seed, labels=5, blank_bias=0.5), sounds(seed, 8)
            labels = labels_of(run(decoder, config, encoded)[0])
            totals.append(log_probability(decoder, encoded, labels))
        means.append(np.mean(totals))
    assert means == sorted(means) and means[-1] > means[0]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), penalty=st.sampled_from([0.0, 1.5]), most=st.integers(1, 3))
def test_a_beam_of_one_is_greedy_search(seed, penalty, most):
    decoder, encoded = Decoder(seed, labels=6), sounds(seed, 9)
    predicted, state = decoder.predict(BLANK, None)
    expected, log_prob = [], 0.0
    for number, frame in enumerate(encoded):
        for _ in range(most):
            scores = log_softmax(decoder.joint(frame, predicted))
            scores[BLANK] -= penalty
            label = int(scores.argmax())
            log_prob += scores[label] + (penalty if label == BLANK else 0.0)
            if label == BLANK:
                break
            expected.append((label, number))
            predicted, state = decoder.predict(label, state)
    for strategy in ("greedy", *BEAMS) if most == 1 else ("greedy", "time_synchronous", "adaptive"):
        config = SearchConfig(strategy=strategy, beam=1, blank_penalty=penalty)
        (found,) = run(decoder, config, encoded, most=most)
        assert found.tokens == expected
        assert found.acoustic == pytest.approx(log_prob, abs=1e-3)
        assert found.total == pytest.approx(log_prob + penalty * len(expected), abs=1e-3)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), strategy=st.sampled_from(["greedy", *BEAMS]), data=st.data())
def test_any_blocks_give_the_same(seed, strategy, data):
    decoder, encoded = Decoder(seed, labels=5), sounds(seed, 12)
    config = SearchConfig(strategy=strategy, beam=3, nbest=1 if strategy == "greedy" else 3)
    blocks = data.draw(st.lists(st.integers(0, 5), max_size=4))
    whole, parts = run(decoder, config, encoded), run(decoder, config, encoded, blocks=blocks)
    assert parts == whole


@pytest.mark.parametrize("strategy", ["time_synchronous", "modified"])
@pytest.mark.parametrize("seed", range(3))
def test_scorers_add_to_every_sequence_and_to_its_end(strategy, seed):
    decoder, encoded = Decoder(seed), sounds(seed)
    scorers = [Bigrams(seed), Bigrams(seed + 100, 0.3)]
    truth = all_alignments(decoder, encoded, one_symbol=strategy == "modified")
    found = run(
        decoder, SearchConfig(strategy=strategy, beam=WIDE, nbest=WIDE), encoded, scorers=scorers
    )
    assert [one.total for one in found] == sorted((one.total for one in found), reverse=True)
    assert len(found) == len(truth)
    for one in found:
        labels = labels_of(one)
        assert one.acoustic == pytest.approx(truth[labels], abs=1e-4)
        expected = [scorer.whole(labels) for scorer in scorers]
        np.testing.assert_allclose(one.scorers, expected, atol=1e-4)
        assert one.total == pytest.approx(one.acoustic + sum(one.scorers))


@pytest.mark.parametrize("strategy", ["greedy", *BEAMS])
def test_a_strong_scorer_decides(strategy):
    class Only2(Bigrams):
        def __init__(self):
            self.table = np.array([[0, -50, 50, 0]] * LABELS, np.float32)

    config = SearchConfig(strategy=strategy, beam=3)
    (found,) = run(Decoder(0), config, sounds(0), scorers=[Only2()])
    assert set(labels_of(found)) == {2} and len(labels_of(found)) >= FRAMES


def test_settled_labels_never_change_and_all_hypotheses_share_them():
    counts = []
    for seed in range(20):
        decoder = Decoder(seed, labels=5, blank_bias=2.0)
        search = Search(decoder, SearchConfig(strategy="time_synchronous", nbest=4), MOST)
        settled: list = []
        for vector in sounds(seed, 25):
            search.advance(vector[None])
            assert search.settled[: len(settled)] == settled
            settled = list(search.settled)
            found = search.nbest()
            for one in found:
                assert list(labels_of(one))[: len(settled)] == settled
                frames = [token.frame for token in one.tokens]
                assert frames == sorted(frames) and all(0 <= f < search.frame for f in frames)
            assert found[0].tokens == search.tokens
            assert len({labels_of(one) for one in found}) == len(found)
        counts.append(len(settled))
        search.finish()
        assert search.settled == list(labels_of(search.nbest()[0]))
    assert sum(counts) > 50


@pytest.mark.parametrize("strategy", ["greedy", "time_synchronous", "adaptive"])
def test_a_network_that_never_stops_is_bounded(strategy):
    decoder, encoded = Decoder(0, blank_bias=-100.0), sounds(0, 8)
    for symbols, config in (
        (3, SearchConfig(strategy=strategy, beam=2, blank_penalty=9.0)),
        (1, SearchConfig(strategy=strategy, beam=2, blank_penalty=9.0, max_symbols=1)),
    ):
        (found,) = run(decoder, config, encoded, most=3)
        assert len(found.tokens) == 8 * symbols
        frames = [token.frame for token in found.tokens]
        assert frames == sorted(frames)


@pytest.mark.parametrize("strategy", ["time_synchronous", "adaptive"])
def test_a_burst_of_labels_adds_to_those_that_came_early(strategy):
    """The beam holds nothing and the whole word, but not what leads from one to the other."""

    class Word123:
        def predict(self, label, state):
            return np.array([[label]]), (np.array([label]),)

        def joint(self, encoded, predicted):
            logits = np.zeros(4, np.float32)
            following = int(predicted[0, 0] + 1) % 4
            logits[following] = encoded[0] if following == 1 else 20.0
            return logits - np.array([0, *(30.0 * (np.arange(1, 4) != following))])

    (found,) = run(
        Word123(),
        SearchConfig(strategy=strategy, beam=2, expansion_gamma=9.0),
        np.array([[-2.0], [20.0]], np.float32),
        most=3,
    )
    assert labels_of(found) == (1, 2, 3) and found.total == pytest.approx(0, abs=1e-3)
    assert [token.frame for token in found.tokens] == [1, 1, 1]


@pytest.mark.parametrize("strategy", ["greedy", *BEAMS])
def test_a_penalty_on_the_blank_gives_more_labels(strategy):
    counts = []
    for penalty in (-3.0, 0.0, 3.0):
        config = SearchConfig(strategy=strategy, beam=3, blank_penalty=penalty)
        found = [run(Decoder(seed), config, sounds(seed, 6))[0] for seed in range(8)]
        counts.append(sum(len(one.tokens) for one in found))
    assert counts[0] < counts[1] < counts[2]


def test_the_norm_of_lengths_prefers_longer_transcripts():
    decoder, encoded = Decoder(8, blank_bias=1.0), sounds(8, 6)
    first, second = (
        run(decoder, SearchConfig(strategy="time_synchronous", beam=8, length_power=p), encoded)[0]
        for p in (0.0, 1.0)
    )
    assert len(first.tokens) < len(second.tokens) and first.total > second.total


def test_a_sure_network_is_asked_once_a_hypothesis_and_frame():
    """Equal predictions share their logits; a frame of certain silence expands nothing."""

    class LastLabel(Decoder):
        def predict(self, label, state):
            return self.table[label][None], (np.array([label]),)

    beam, decoder = 4, LastLabel(0, blank_bias=0.0)
    search = Search(decoder, SearchConfig(strategy="time_synchronous", beam=beam), 5)
    search.advance(sounds(0, 10))
    decoder.bias[BLANK], decoder.joints = 30.0, 0
    search.advance(sounds(1, 10))
    assert decoder.joints <= 10 * min(beam, LABELS)


def test_greedy_is_what_a_search_is_by_default():
    decoder, encoded = Decoder(3), sounds(3)
    assert run(decoder, GREEDY, encoded) == run(decoder, SearchConfig(), encoded)
    (found,) = run(decoder, GREEDY, encoded[:0])
    assert found == ([], 0.0, 0.0, ())
