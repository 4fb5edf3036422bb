import numpy as np
import pytest
from keras import ops

from asr_qat.layers.attention import (
    PERIOD,
    AttentionWindow,
    CausalAttention,
    Window,
    rotary_turns,
    rotate,
)
from asr_qat.layers.base import StreamingLayer
from asr_qat.testing import call_in_chunks, check_streaming_layer

# Masked values are multiplied by zero, so what stands in for the future must be a number.
FUTURE = 1e3


class Attention(StreamingLayer):
    """A window and one attention layer."""

    def __init__(self, dim, heads, left_context, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.sizes = {"dim": dim, "heads": heads, "left_context": left_context}
        self.window = AttentionWindow(left_context, dim // heads)
        self.attention = CausalAttention(dim, heads, left_context, dropout)

    def build(self, input_shape):
        self.attention.build(input_shape)

    def initial_state(self, batch):
        past = self.attention.initial_state(batch)
        return {"window": self.window.initial_state(batch), "attention": past}

    def step(self, x, state, training=False):
        window, place = self.window.step(x, state["window"])
        y, past = self.attention.step(x, state["attention"], window, training=training)
        return y, {"window": place, "attention": past}

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.sizes}


def frames(seed, count, dim=16, batch=1):
    return np.random.default_rng(seed).normal(size=(batch, count, dim)).astype(np.float32)


@pytest.mark.parametrize("left_context", [1, 4, 50])
def test_streaming_contract(left_context):
    layer = Attention(16, 2, left_context)
    check_streaming_layer(layer, (20, 16), (1, 3, 8), future=FUTURE)


def test_equals_attention_written_out():
    """Query i sees keys i - left_context .. i, scored after rotation by their own positions."""
    layer = Attention(16, 2, left_context=3)
    x = frames(0, 9)
    y = ops.convert_to_numpy(layer(x))[0]
    inward, outward = (w.astype(np.float64) for w in layer.get_weights())
    normal = x[0] / np.sqrt((x[0] ** 2).mean(-1, keepdims=True) + 1e-5)
    query, key, value = np.split(normal @ inward, 3, axis=-1)
    turn = np.exp(1j * np.arange(9)[:, None] * rotary_turns(8).astype(np.float64))
    context = np.zeros((9, 16))
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        q, k = ((v[:, part][:, :4] + 1j * v[:, part][:, 4:]) * turn for v in (query, key))
        scores = (q @ k.conj().T).real / np.sqrt(8)
        for i in range(9):
            seen = slice(max(0, i - 3), i + 1)
            weights = np.exp(scores[i, seen] - scores[i, seen].max())
            context[i, part] = weights @ value[seen, part] / weights.sum()
    np.testing.assert_allclose(y, x[0] + context @ outward, atol=1e-5)


def test_input_older_than_the_left_context_has_no_influence():
    layer = Attention(16, 4, left_context=5)
    x = frames(1, 16)
    changed = x.copy()
    changed[:, :8] = 7.0
    before, after = (ops.convert_to_numpy(layer(v)) for v in (x, changed))
    np.testing.assert_allclose(after[:, 13:], before[:, 13:], atol=1e-6)
    assert np.abs(after[:, 12] - before[:, 12]).max() > 1e-4  # frame 7 is in its context


def test_the_place_in_the_sequence_does_not_matter():
    """With the same frames in the context, a frame's output is the same anywhere."""
    layer = Attention(16, 2, left_context=4)
    x, before = frames(2, 10), frames(3, 57)
    moved = ops.convert_to_numpy(layer(np.concatenate([before, x], axis=1)))[:, 57:]
    np.testing.assert_allclose(moved[:, 4:], ops.convert_to_numpy(layer(x))[:, 4:], atol=1e-5)


def window_at(position, time=1, left_context=4, size=8):
    layer = AttentionWindow(left_context, size)
    state = {"position": np.full((1, 1), position, np.float32)}
    return Window(*map(ops.convert_to_numpy, layer.step(np.zeros((1, time, 1)), state)[0]))


def test_rotated_products_depend_on_the_distance_alone():
    query, key = frames(4, 1, 8)[:, None], frames(5, 1, 8)[:, None]

    def score(i, j):
        return float(ops.sum(rotate(query, *window_at(i)[:2]) * rotate(key, *window_at(j)[:2])))

    assert score(7, 3) == pytest.approx(score(39, 35), abs=1e-4)
    assert score(7, 3) == pytest.approx(score(PERIOD + 1, PERIOD - 3), abs=1e-4)
    assert score(7, 3) != pytest.approx(score(7, 4), abs=1e-3)


def test_positions_repeat_exactly_after_whole_periods():
    far = window_at(1000 * PERIOD + 5, time=3)
    for now, later in zip(window_at(PERIOD + 5, time=3), far, strict=True):
        np.testing.assert_array_equal(now, later)


def test_the_mask_shows_the_band_and_hides_what_was_before_the_start():
    seen = window_at(position=1, time=3, left_context=2).mask == 0
    assert seen[0, 0].tolist() == [
        [False, True, True, False, False],
        [False, True, True, True, False],
        [False, False, True, True, True],
    ]


def test_rows_of_a_batch_have_positions_of_their_own():
    layer = AttentionWindow(4, 8)
    state = {"position": np.array([[3.0], [0.0]], np.float32)}
    both, after = layer.step(np.zeros((2, 2, 1)), state)
    for row, position in enumerate((3, 0)):
        for ours, alone in zip(both, window_at(position, time=2), strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(ours)[row], alone[0], atol=1e-6)
    assert ops.convert_to_numpy(after["position"]).tolist() == [[5.0], [2.0]]


def test_a_stream_longer_than_a_period():
    layer = Attention(8, 1, left_context=6)
    x = frames(8, PERIOD + 40, 8)
    whole = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(call_in_chunks(layer, x, 46), whole, atol=1e-5)


def test_dropout_acts_in_training_alone():
    layer = Attention(16, 2, 4, dropout=0.5)
    x = frames(6, 12)
    still = ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=False)), still)
    assert np.any(ops.convert_to_numpy(layer(x, training=True)) != still)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((12, 4, 8), "dim / heads must be even; received dim=12, heads=4"),
        ((16, 2, 0), "left_context: received 0, expected 1 to 256"),
        ((16, 2, 300), "left_context: received 300, expected 1 to 256"),
    ],
)
def test_sizes_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        Attention(*arguments)
