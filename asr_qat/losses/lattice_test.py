import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.losses.lattice import Cells, align, check_lengths, move_probabilities


def reference(stay, emit, frames, labels):
    """Log-likelihood, and probabilities of staying and emitting, of one row in float64."""
    alpha = np.full((frames + 1, labels + 2), -np.inf)
    beta = np.full((frames + 1, labels + 2), -np.inf)
    alpha[0, 0] = 0.0
    for t in range(frames):
        for u in range(labels + 1):
            alpha[t + 1, u] = np.logaddexp(alpha[t + 1, u], alpha[t, u] + stay[t, u])
            alpha[t, u + 1] = np.logaddexp(alpha[t, u + 1], alpha[t, u] + emit[t, u])
    beta[frames, labels] = 0.0
    for t in reversed(range(frames)):
        for u in reversed(range(labels + 1)):
            after = beta[t + 1, u] if u == labels or t < frames - 1 else -np.inf
            longer = beta[t, u + 1] if u < labels else -np.inf
            beta[t, u] = np.logaddexp(stay[t, u] + after, emit[t, u] + longer)
    total = beta[0, 0]
    stays, emits = np.zeros((2, frames, labels + 1))
    for t in range(frames):
        for u in range(labels + 1):
            if t < frames - 1 or u == labels:
                stays[t, u] = np.exp(alpha[t, u] + stay[t, u] + beta[t + 1, u] - total)
            if u < labels:
                emits[t, u] = np.exp(alpha[t, u] + emit[t, u] + beta[t, u + 1] - total)
    return total, stays, emits


def ours(stay, emit, frames, labels):
    time, width = stay.shape[1:]
    frames, labels = (ops.convert_to_tensor(np.asarray(x, np.int32)) for x in (frames, labels))
    cells = Cells.of(frames, labels, time, width)
    stay, emit = (ops.convert_to_tensor(x.astype("float32")) for x in (stay, emit))
    found = align(stay, emit, cells)
    moves = move_probabilities(found.share, cells)
    return [ops.convert_to_numpy(x) for x in (found.log_likelihood, *moves)]


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**31),
    rows=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=3),
)
def test_equals_the_recursions_of_float64(seed, rows):
    rng = np.random.default_rng(seed)
    stay, emit = -rng.exponential(size=(2, len(rows), 6, 5)) * 3
    total, stays, emits = ours(stay, emit, *np.array(rows).T)
    for i, (frames, labels) in enumerate(rows):
        expected = reference(stay[i], emit[i], frames, labels)
        assert total[i] == pytest.approx(expected[0], rel=1e-5)
        for found, wanted in zip((stays[i], emits[i]), expected[1:], strict=True):
            np.testing.assert_allclose(found[:frames, : labels + 1], wanted, atol=2e-6)
            assert not found[frames:].any() and not found[:, labels + 1 :].any()


def test_long_utterances_lose_no_precision():
    rng = np.random.default_rng(0)
    stay, emit = -rng.exponential(size=(2, 1, 700, 101)) * 5 - 2
    total, stays, emits = ours(stay, emit, [700], [100])
    expected = reference(stay[0], emit[0], 700, 100)
    assert expected[0] < -2000
    assert total[0] == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(stays[0], expected[1], atol=5e-5)
    np.testing.assert_allclose(emits[0], expected[2], atol=5e-5)


@pytest.mark.parametrize(
    ("frames", "labels", "message"),
    [
        ([5, 0], [1, 1], "row 1: 0 frames, expected 1 to 5"),
        ([6, 5], [1, 1], "row 0: 6 frames"),
        ([5, 5], [1, 9], "row 1: 9 labels, expected 0 to 8"),
        ([5, 3], [1, 8], "row 1: 8 labels are longer than 3 frames allow"),
    ],
)
def test_lengths_that_cannot_be(frames, labels, message):
    with pytest.raises(ValueError, match=message):
        check_lengths(frames, labels, 5, 8, max_labels_per_frame=2)
