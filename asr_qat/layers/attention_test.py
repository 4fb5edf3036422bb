import numpy as np
import pytest
from keras import ops

from asr_qat.layers.attention import CausalAttention, band_mask, rotary_tables, rotate
from asr_qat.testing import check_streaming_layer

# Masked values are multiplied by zero, so what stands in for the future must be a number.
FUTURE = 1e3


def frames(seed, count, dim=16, batch=1):
    return np.random.default_rng(seed).normal(size=(batch, count, dim)).astype(np.float32)


@pytest.mark.parametrize("left_context", [1, 4, 50])
def test_streaming_contract(left_context):
    layer = CausalAttention(16, 2, left_context)
    check_streaming_layer(layer, (20, 16), (1, 3, 8), future=FUTURE)


def test_equals_attention_written_out():
    """Query i sees keys i - left_context .. i, scored after rotation by their own positions."""
    layer = CausalAttention(16, 2, left_context=3)
    x = frames(0, 9)
    y = ops.convert_to_numpy(layer(x))[0]
    inward, outward = (w.astype(np.float64) for w in layer.get_weights())
    query, key, value = np.split(x[0] @ inward, 3, axis=-1)
    turn = np.exp(1j * np.arange(9)[:, None] * 10000.0 ** (-np.arange(0, 8, 2) / 8))
    context = np.zeros((9, 16))
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        q, k = ((v[:, part][:, :4] + 1j * v[:, part][:, 4:]) * turn for v in (query, key))
        scores = (q @ k.conj().T).real / np.sqrt(8)
        for i in range(9):
            seen = slice(max(0, i - 3), i + 1)
            weights = np.exp(scores[i, seen] - scores[i, seen].max())
            context[i, part] = weights @ value[seen, part] / weights.sum()
    np.testing.assert_allclose(y, context @ outward, atol=1e-5)


def test_input_older_than_the_left_context_has_no_influence():
    layer = CausalAttention(16, 4, left_context=5)
    x = frames(1, 16)
    changed = x.copy()
    changed[:, :8] = 7.0
    before, after = (ops.convert_to_numpy(layer(v)) for v in (x, changed))
    np.testing.assert_allclose(after[:, 13:], before[:, 13:], atol=1e-6)
    assert np.abs(after[:, 12] - before[:, 12]).max() > 1e-4  # frame 7 is in its context


def test_the_place_in_the_sequence_does_not_matter():
    """With the same frames in the context, a frame's output is the same anywhere."""
    layer = CausalAttention(16, 2, left_context=4)
    x, before = frames(2, 10), frames(3, 57)
    moved = ops.convert_to_numpy(layer(np.concatenate([before, x], axis=1)))[:, 57:]
    np.testing.assert_allclose(moved[:, 4:], ops.convert_to_numpy(layer(x))[:, 4:], atol=1e-5)


def test_rotated_products_depend_on_the_distance_alone():
    cosines, sines = (ops.convert_to_numpy(v) for v in rotary_tables(40, 8))
    query, key = frames(4, 1, 8)[:, None], frames(5, 1, 8)[:, None]

    def score(i, j):
        q = rotate(ops.convert_to_tensor(query), cosines[i : i + 1], sines[i : i + 1])
        k = rotate(ops.convert_to_tensor(key), cosines[j : j + 1], sines[j : j + 1])
        return float(ops.sum(q * k))

    assert score(7, 3) == pytest.approx(score(39, 35), abs=1e-4)
    assert score(7, 3) != pytest.approx(score(7, 4), abs=1e-3)


def test_band_mask():
    seen = ops.convert_to_numpy(band_mask(3, 2)) == 0
    assert seen.tolist() == [
        [True, True, True, False, False],
        [False, True, True, True, False],
        [False, False, True, True, True],
    ]


def test_dropout_acts_in_training_alone():
    layer = CausalAttention(16, 2, 4, dropout=0.5)
    x = frames(6, 12)
    still = ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=False)), still)
    assert np.any(ops.convert_to_numpy(layer(x, training=True)) != still)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((12, 4, 8), "dim / heads must be even; received dim=12, heads=4"),
        ((16, 2, 0), "left_context: received 0, expected at least 1"),
    ],
)
def test_sizes_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        CausalAttention(*arguments)
