import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.losses.rnnt import rnnt_loss
from asr_qat.testing import gradient_of


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def brute_force(logits, labels, frames, count, blank=0):
    """-log of the sum over every alignment, each walked move by move, in float64."""
    log_probs = log_softmax(np.asarray(logits, np.float64))
    total = -np.inf
    for emit_at in itertools.combinations(range(frames - 1 + count), count):
        t = u = 0
        score = 0.0
        for move in range(frames - 1 + count):
            if move in emit_at:
                score, u = score + log_probs[t, u, labels[u]], u + 1
            else:
                score, t = score + log_probs[t, u, blank], t + 1
        total = np.logaddexp(total, score + log_probs[t, u, blank])
    return -total


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    rows=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=3),
    blank=st.integers(0, 3),
)
def test_equals_the_sum_over_alignments(seed, rows, blank):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(rows), 4, 4, 4)) * 3
    others = [k for k in range(4) if k != blank]
    labels = rng.choice(others, size=(len(rows), 3))
    frames, counts = np.array(rows).T
    loss = rnnt_loss(
        ops.convert_to_tensor(logits), ops.convert_to_tensor(labels), frames, counts, blank
    )
    expected = [
        brute_force(logits[i], labels[i], frames[i], counts[i], blank) for i in range(len(rows))
    ]
    tolerance = 1e-9 if "float64" in str(loss.dtype) else 1e-5  # JAX computes in float32
    np.testing.assert_allclose(ops.convert_to_numpy(loss), expected, rtol=tolerance)


def test_fast_emit_counts_moves_that_emit_more():
    # One frame, one label: the only alignment emits it, then stays. d/dlogits of both moves.
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(1, 1, 2, 3))

    def gradient(fast_emit):
        frames = [logits.shape[1]]
        return gradient_of(
            lambda x: rnnt_loss(x, np.array([[2]]), frames, [1], fast_emit=fast_emit)[0], logits
        )

    plain, faster = gradient(0.0), gradient(0.5)
    np.testing.assert_allclose(faster[0, 0, 0], 1.5 * plain[0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(faster[0, 0, 1], plain[0, 0, 1], rtol=1e-6)
    # Where a move may be earlier or later, the logit of the label is drawn up.
    logits = rng.normal(size=(1, 4, 2, 3))
    difference = gradient(0.5) - gradient(0.0)
    assert np.abs(difference.sum(-1)).max() < 1e-6
    assert (difference[0, :, 0, 2] < 0).all() and np.abs(difference[0, :, 1]).max() < 1e-6
    each = gradient(np.array([[0.5]], np.float32))
    np.testing.assert_allclose(each, gradient(0.5), rtol=1e-5, atol=1e-9)
    losses = [
        rnnt_loss(ops.convert_to_tensor(logits), np.array([[2]]), [4], [1], fast_emit=x)
        for x in (0.0, 0.5)
    ]
    assert float(losses[0][0]) == float(losses[1][0])


def test_gradient_equals_finite_differences():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 4, 6))
    labels = rng.integers(1, 6, (2, 3))
    frames, counts = np.array([5, 3]), np.array([3, 1])
    weights = np.array([1.0, -2.0])

    def total(x):
        return ops.sum(rnnt_loss(x, labels, frames, counts) * weights)

    def exact_total(x):
        rows = (brute_force(x[i], labels[i], frames[i], counts[i]) for i in range(2))
        return np.dot(list(rows), weights)

    gradient = gradient_of(total, logits)
    numeric = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        for sign in (1, -1):
            moved = logits.copy()
            moved[index] += sign * 1e-6
            numeric[index] += sign * exact_total(moved) / 2e-6
    np.testing.assert_allclose(gradient, numeric, atol=1e-6)
    assert np.all(gradient[1, 3:] == 0) and np.all(gradient[1, :, 2:] == 0)


def test_padding_changes_nothing():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(1, 6, 5, 7)).astype("float32")
    labels = rng.integers(1, 7, (1, 4))
    short = rnnt_loss(ops.convert_to_tensor(logits[:, :4, :3]), labels[:, :2], [4], [2])
    padded = logits.copy()
    padded[:, 4:], padded[:, :, 3:] = 1e4, -1e4
    long = rnnt_loss(ops.convert_to_tensor(padded), labels, [4], [2])
    np.testing.assert_allclose(ops.convert_to_numpy(short), ops.convert_to_numpy(long), rtol=1e-6)


def test_extreme_logits_stay_finite():
    logits = np.zeros((1, 50, 11, 5), "float32")
    logits[..., 0] = 200.0
    loss = functools.partial(rnnt_loss, labels=np.full((1, 10), 1), frame_lengths=[50])
    value = loss(ops.convert_to_tensor(logits), label_lengths=[10])
    assert np.isfinite(ops.convert_to_numpy(value)).all()
    gradient = gradient_of(lambda x: ops.sum(loss(x, label_lengths=[10])), logits)
    assert np.isfinite(gradient).all()


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="logits hold 3 labels .* but labels 2"):
        rnnt_loss(ops.zeros((1, 5, 4, 6)), np.ones((1, 2), int), [5], [2])
