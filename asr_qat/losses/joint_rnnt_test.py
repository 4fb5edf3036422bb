import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from asr_qat.losses.distillation import Taught
from asr_qat.losses.distributions import FactorizedBlank, Softmax
from asr_qat.losses.joint_rnnt import JointInputs, joint_rnnt_loss, lattice_scores
from asr_qat.losses.lattice import Cells, align, move_probabilities
from asr_qat.losses.rnnt import rnnt_loss
from asr_qat.testing import compiled, gradient_of

SIZES = (2, 6, 3, 8, 5)  # batch, time, labels, dim, vocabulary


def example(seed=0, sizes=SIZES):
    batch, time, count, dim, vocabulary = sizes
    rng = np.random.default_rng(seed)
    shapes = ((batch, time, dim), (batch, count + 1, dim), (vocabulary, dim), (vocabulary,))
    inputs = [rng.normal(size=shape).astype("float32") for shape in shapes]
    labels = rng.integers(1, vocabulary, (batch, count)).astype("int32")
    frames = rng.integers(1, time + 1, batch).astype("int32")
    counts = rng.integers(0, count + 1, batch).astype("int32")
    frames[0], counts[0] = time, count
    return inputs, (labels, frames, counts)


def plain(inputs, labels, frames, counts, distribution=None, forbidden=None, **kwargs):
    """The same loss of logits that are held."""
    inputs = JointInputs(*inputs)
    hidden = ops.tanh(inputs.frames[:, :, None] + inputs.labels[:, None])
    logits = ops.matmul(hidden, ops.transpose(inputs.table)) + inputs.bias
    if forbidden is not None:
        banned = ops.equal(ops.arange(logits.shape[-1]), forbidden[:, None, :, None])
        logits = ops.where(banned, -1e30, logits)
    logits = (distribution or Softmax()).log_probs(logits)
    return rnnt_loss(logits, labels, frames, counts, **kwargs)


def taught_loss(inputs, labels, frames, counts, *, taught):
    """The loss of held logits with the divergence from a teacher, written out."""
    inputs = JointInputs(*inputs)
    hidden = ops.tanh(inputs.frames[:, :, None] + inputs.labels[:, None])
    logs = ops.log_softmax(ops.matmul(hidden, ops.transpose(inputs.table)) + inputs.bias)
    cells = Cells.of(frames, counts, logs.shape[1], logs.shape[2])
    following = np.pad(labels, ((0, 0), (0, 1)))[:, None, :, None]
    following = np.broadcast_to(following, (*logs.shape[:3], 1))
    stay, emit = logs[..., 0], ops.take_along_axis(logs, following, axis=-1)[..., 0]
    visited = sum(move_probabilities(align(stay, emit, cells).share, cells))
    visited = ops.stop_gradient(visited)
    follows = np.asarray(cells.emits)

    def classes(stay, emit):
        one, two = ops.exp(stay), ops.where(follows, ops.exp(emit), 0.0)
        return ops.stack([one, two, 1.0 - one - two])

    t, p = classes(taught.stay, taught.emit), classes(stay, emit)
    there = t > 0
    kl = ops.where(there, t * (ops.log(ops.where(there, t, 1.0) / ops.where(there, p, 1.0))), 0.0)
    extra = ops.sum(visited * ops.sum(kl, axis=0), axis=(1, 2))
    return rnnt_loss(logs, labels, frames, counts) + taught.weight * extra


def test_the_divergence_from_a_teacher_and_its_gradient():
    inputs, lengths = example(3)
    teacher, _ = example(4)
    taught = Taught(*lattice_scores(JointInputs(*teacher), *lengths, slice_bytes=200), 0.7)
    found = ops.convert_to_numpy(fused(inputs, *lengths, taught=taught, slice_bytes=200))
    wanted = ops.convert_to_numpy(taught_loss(inputs, *lengths, taught=taught))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert np.all(found > ops.convert_to_numpy(fused(inputs, *lengths)) + 0.1)
    ours = weighted_gradients(fused, inputs, lengths, taught=taught, slice_bytes=200)
    theirs = weighted_gradients(taught_loss, inputs, lengths, taught=taught)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=5e-5)


def test_a_model_diverges_not_from_itself():
    inputs, lengths = example(5)
    taught = Taught(*lattice_scores(JointInputs(*inputs), *lengths), 1.0)
    plain_value = ops.convert_to_numpy(fused(inputs, *lengths))
    value = ops.convert_to_numpy(fused(inputs, *lengths, taught=taught))
    np.testing.assert_allclose(value, plain_value, rtol=1e-5)
    with pytest.raises(ValueError, match="FactorizedBlank, expected Softmax"):
        fused(inputs, *lengths, taught=taught, distribution=FactorizedBlank())


def fused(inputs, *lengths, **kwargs):
    return joint_rnnt_loss(JointInputs(*inputs), *lengths, **kwargs)


def weighted_gradients(loss, inputs, lengths, **kwargs):
    """Of a sum with weights, by each of the inputs."""
    weights = np.array([1.0, -2.0, 0.5], "float32")[: len(inputs[0])]

    def of(number):
        def total(x):
            given = [*inputs[:number], x, *inputs[number + 1 :]]
            given = [ops.convert_to_tensor(g) for g in given]
            return ops.sum(loss(given, *lengths, **kwargs) * weights)

        return gradient_of(total, inputs[number])

    return [of(i) for i in range(len(inputs))]


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"fast_emit": 0.3},
        {"distribution": FactorizedBlank()},
        {"forbidden": np.array([[-1, 2, -1, 3], [1, -1, -1, -1]], "int32")},
        {"blank": 4},
    ],
    ids=["plain", "fast_emit", "factorized_blank", "forbidden", "blank"],
)
def test_equals_the_loss_of_held_logits(kwargs):
    inputs, lengths = example()
    if "forbidden" in kwargs:
        lengths[0][:] = [[1, 1, 2], [2, 1, 1]]  # not what is forbidden, or nothing is possible
    if "blank" in kwargs:
        lengths[0][:] -= 1
    values = [ops.convert_to_numpy(f(inputs, *lengths, **kwargs)) for f in (plain, fused)]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5)
    found = weighted_gradients(fused, inputs, lengths, slice_bytes=200, **kwargs)
    wanted = weighted_gradients(plain, inputs, lengths, **kwargs)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
        assert np.abs(theirs).max() > 0.01


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**31),
    sizes=st.tuples(
        st.integers(1, 3), st.integers(1, 7), st.integers(0, 4), st.just(3), st.integers(2, 6)
    ),
    slice_bytes=st.integers(1, 2000),
)
def test_slices_of_any_size(seed, sizes, slice_bytes):
    inputs, lengths = example(seed, sizes)
    value = ops.convert_to_numpy(fused(inputs, *lengths, slice_bytes=slice_bytes))
    np.testing.assert_allclose(value, ops.convert_to_numpy(plain(inputs, *lengths)), rtol=1e-5)
    found = weighted_gradients(fused, inputs, lengths, slice_bytes=slice_bytes)
    wanted = weighted_gradients(plain, inputs, lengths)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-5)


def test_compiled_with_sizes_that_vary():
    step = compiled(lambda *given: fused(given[:4], *given[4:]))
    for sizes in (SIZES, (3, 9, 2, 8, 5)):
        inputs, lengths = example(1, sizes)
        found = step(*(ops.convert_to_tensor(x) for x in (*inputs, *lengths)))
        expected = ops.convert_to_numpy(plain(inputs, *lengths))
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5)


def test_long_utterances_lose_no_precision():
    sizes = (1, 500, 60, 4, 6)
    inputs, (labels, _, _) = example(2, sizes)
    lengths = (labels, np.array([500]), np.array([60]))
    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX has no float64 here to compare with")
    exact = [x.astype("float64") for x in inputs]
    wanted = weighted_gradients(plain, exact, lengths)
    for ours, theirs in zip(weighted_gradients(fused, inputs, lengths), wanted, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_shapes_that_do_not_fit():
    inputs, (labels, *lengths) = example()
    with pytest.raises(ValueError, match="the joint's labels hold 3 labels .* but labels 2"):
        fused(inputs, labels[:, :2], *lengths)
