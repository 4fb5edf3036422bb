import numpy as np
import pytest
from keras import ops

from asr_qat.losses.distributions import DISTRIBUTIONS
from asr_qat.testing import gradient_of


def probabilities(name, logits):
    """By the definition, in float64."""
    exponentials = np.exp(logits)
    if name == "softmax":
        return exponentials / exponentials.sum(-1, keepdims=True)
    blank = 1 / (1 + np.exp(-logits[..., :1]))
    labels = exponentials[..., 1:] / exponentials[..., 1:].sum(-1, keepdims=True)
    return np.concatenate([blank, (1 - blank) * labels], axis=-1)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_scores_and_log_probs_are_of_the_distribution(name):
    distribution = DISTRIBUTIONS[name]
    logits = np.random.default_rng(0).normal(size=(7, 5)).astype("float32") * 4
    labels = np.arange(7, dtype="int32") % 4 + 1
    expected = probabilities(name, logits.astype("float64"))
    scores = distribution.scores(ops.convert_to_tensor(logits), labels, 0)
    np.testing.assert_allclose(np.exp(scores.stay), expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(np.exp(scores.emit), expected[np.arange(7), labels], rtol=1e-5)
    softmax = ops.softmax(distribution.log_probs(ops.convert_to_tensor(logits)))
    np.testing.assert_allclose(ops.convert_to_numpy(softmax), expected, rtol=1e-5)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_gradient_is_that_of_the_scores(name):
    distribution, rng = DISTRIBUTIONS[name], np.random.default_rng(1)
    logits = rng.normal(size=(6, 5)).astype("float32") * 3
    labels = rng.integers(1, 5, 6).astype("int32")
    stays, emits = rng.random((2, 6)).astype("float32")

    def loss(logits):
        scores = distribution.scores(logits, labels, 0)
        return -ops.sum(scores.stay * stays + scores.emit * emits)

    norm = distribution.scores(ops.convert_to_tensor(logits), labels, 0).norm
    ours = distribution.gradient(ops.convert_to_tensor(logits), norm, labels, 0, stays, emits)
    np.testing.assert_allclose(ops.convert_to_numpy(ours), gradient_of(loss, logits), atol=1e-5)


def test_extreme_logits_stay_finite():
    logits = np.array([[500.0, 0, 1], [-500.0, 0, 1]], "float32")
    for distribution in DISTRIBUTIONS.values():
        assert np.isfinite(distribution.log_probs(ops.convert_to_tensor(logits))).all()
