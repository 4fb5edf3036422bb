import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.losses.joint_rnnt import JointInputs, joint_rnnt_loss
from asr_qat.losses.pruned import additive_rnnt_loss, pruned_cells
from asr_qat.losses.rnnt import rnnt_loss
from asr_qat.testing import gradient_of


def example(seed=0, batch=2, time=8, count=4, vocabulary=5):
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(batch, time, vocabulary)).astype("float32") * 3
    predictions = rng.normal(size=(batch, count + 1, vocabulary)).astype("float32") * 3
    labels = rng.integers(1, vocabulary, (batch, count)).astype("int32")
    frame_lengths = np.array([time, time - 2], "int32")[:batch]
    return frames, predictions, (labels, frame_lengths, np.array([count, 1], "int32")[:batch])


def test_the_additive_loss_is_that_of_its_logits():
    frames, predictions, lengths = example()

    def plain(frames):
        return ops.sum(rnnt_loss(frames[:, :, None] + predictions[:, None], *lengths))

    def ours(frames):
        given = (ops.convert_to_tensor(x) for x in (predictions, *lengths))
        return ops.sum(additive_rnnt_loss(frames, *given)[0])

    tensor = ops.convert_to_tensor(frames)
    assert float(ours(tensor)) == pytest.approx(float(plain(tensor)), rel=1e-5)
    np.testing.assert_allclose(gradient_of(ours, frames), gradient_of(plain, frames), atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    time=st.integers(1, 12),
    count=st.integers(0, 9),
    kept=st.integers(2, 6),
)
def test_some_alignment_always_stays(seed, time, count, kept):
    if count > (time - 1) * (kept - 1) + kept - 1:
        return  # no alignment emits so few labels a frame
    rng = np.random.default_rng(seed)
    visited = rng.random((1, time, count + 1)).astype("float32")
    mask = pruned_cells(visited, np.array([time]), np.array([count]), kept)
    mask = ops.convert_to_numpy(mask)[0]
    assert (mask.sum(axis=1) <= kept).all()
    reached = np.zeros_like(mask)
    for t in range(time):
        for u in range(count + 1):
            before = (t == u == 0) or (t and reached[t - 1, u]) or (u and reached[t, u - 1])
            reached[t, u] = mask[t, u] and before
    assert reached[-1, -1]


def test_the_most_visited_labels_are_kept():
    visited = np.zeros((1, 6, 9), "float32")
    for t, u in enumerate((0, 1, 3, 5, 6, 8)):
        visited[0, t, u] = 1.0
    mask = pruned_cells(visited, np.array([6]), np.array([8]), 3)
    assert ops.convert_to_numpy(mask)[visited > 0].all()


def test_with_all_labels_kept_nothing_is_pruned():
    rng = np.random.default_rng(0)
    frames, predictions, lengths = example()
    _, visited = additive_rnnt_loss(frames, predictions, *lengths)
    table, bias = rng.normal(size=(5, 5)).astype("float32"), np.zeros(5, "float32")
    inputs = JointInputs(*(ops.convert_to_tensor(x) for x in (frames, predictions, table, bias)))
    losses = {}
    for kept in (2, 3, 5):
        among = pruned_cells(visited, lengths[1], lengths[2], kept)
        losses[kept] = ops.convert_to_numpy(joint_rnnt_loss(inputs, *lengths, among=among))
    full = ops.convert_to_numpy(joint_rnnt_loss(inputs, *lengths))
    np.testing.assert_allclose(losses[5], full, rtol=1e-6)
    # Fewer alignments: less probability.
    assert (losses[2] >= losses[3] - 1e-4).all() and (losses[3] >= full - 1e-4).all()
    assert losses[2][0] > full[0]
