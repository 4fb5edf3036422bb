"""The last pass by segments, with an encoder that is a formula."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from asr_qat.runtime import ends as ends_module
from asr_qat.runtime import passes as passes_module
from asr_qat.runtime.search.config import SearchConfig
from asr_qat.runtime.search.search import Search
from asr_qat.runtime.signature import State

# They get stand-ins here, which are of other types than theirs.
EndListener: Any = ends_module.EndListener
LastPass: Any = passes_module.LastPass
PassSearch: Any = passes_module.PassSearch


class AheadEncoder:
    """``y[t] = 10 x[t - delay] + x[t]``, then every `factor` frames as their sum."""

    def __init__(self, size=4, delay=3, factor=1):
        self.delay, self.factor = delay, factor
        self.last_input, self.frames = (size, 1), [size // factor]

    def step_last(self, frames, state):
        before = np.zeros((self.delay, 1)) if state.values is None else state.values[0]
        joined = np.concatenate([before, frames])
        state.values = [joined[len(frames) :]]
        y = 10 * joined[: len(frames)] + frames
        return y.reshape(-1, self.factor).sum(axis=1, keepdims=True)

    def alone(self, frames):
        """What it makes of a segment and of the zeros after it."""
        size = -(-len(frames) // self.factor) * self.factor + self.delay * self.factor
        padded = np.zeros((-(-size // self.last_input[0]) * self.last_input[0], 1))
        padded[: len(frames)] = frames
        return self.step_last(padded, State())[: size // self.factor]


class Taker:
    """Keeps the frames that it gets."""

    def __init__(self, first_frame):
        self.first_frame, self.taken, self.finished = first_frame, [], 0

    def take(self, encoded):
        self.taken += encoded.tolist()

    def finish(self):
        self.finished += 1


def listener(*frames):
    made = EndListener(None, 0.5)
    made.frames = list(frames)
    return made


@pytest.mark.parametrize("ends", [(), (3,), (1,), (0, 1, 2), (2, 7, 13), (5, 5, 6), (15,)])
@pytest.mark.parametrize(
    "encoder", [AheadEncoder(), AheadEncoder(delay=9), AheadEncoder(delay=0, factor=2)]
)
def test_each_segment_is_heard_alone(ends, encoder):
    frames = np.arange(1.0, 17.0)[:, None]
    heard = listener()
    last = LastPass(encoder, Taker, encoder.delay, [(heard, 4)])
    for start in range(0, 16, 4):  # as they are heard, chunk by chunk
        heard.frames += [end for end in ends if start <= end < start + 4]
        before = last.ended
        last.advance(frames[start : start + 4])
        assert last.ended == len({end for end in ends if end < start + 4}) >= before
    last.finish()
    edges = sorted({0, 16, *(end + 1 for end in ends)})
    segments = [frames[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    searches = last.searches[: len(segments)]
    for search, segment, start in zip(searches, segments, edges, strict=False):
        np.testing.assert_array_equal(search.taken, encoder.alone(segment))
        assert search.first_frame == -(-start // encoder.factor)
    assert all(not search.taken for search in last.searches[len(segments) :])
    assert [s.finished for s in last.searches] == [bool(s.taken) for s in last.searches]
    assert last.ended == len(last.searches)


def test_ends_of_a_pass_of_another_rate():
    encoder = AheadEncoder()
    frames = np.arange(1.0, 9.0)[:, None]
    for rate, end, expected in ((8, 2, 2), (8, 3, 2), (2, 0, 2), (1, 0, 4)):
        last = LastPass(encoder, Taker, encoder.delay, [(listener(end), rate)])
        last.advance(frames[:4])
        assert len(last.searches) == 2
        np.testing.assert_array_equal(last.searches[0].taken, encoder.alone(frames[:expected]))


def test_without_ends_every_chunk_is_heard_at_once():
    encoder = AheadEncoder(delay=5)
    frames = np.arange(1.0, 13.0)[:, None]
    last = LastPass(encoder, Taker, encoder.delay)
    for start in range(0, 12, 4):
        last.advance(frames[start : start + 4])
        assert len(last.searches[0].taken) == start + 4
    assert last.ended == 0
    last.finish()
    assert last.ended == len(last.searches) == 1
    np.testing.assert_array_equal(last.searches[0].taken, encoder.alone(frames))


def test_nothing_heard_is_an_empty_segment():
    last = LastPass(AheadEncoder(), Taker, 3)
    last.finish()
    assert last.ended == 1 and last.searches[0].taken == [[0.0]] * 3


class Decoder:
    """Emits a frame's number as a label, once, and nothing for the frames of zero."""

    def predict(self, label, state):
        return np.array([[float(label)]]), ()

    def joint(self, encoded, predicted):
        logits = np.zeros(10)
        logits[0 if predicted[0, 0] == encoded[0] else int(encoded[0])] = 1
        return logits


def test_a_search_leaves_out_the_first_late_frames_and_tells_who_listens():
    heard = []

    class Listener:
        def hear(self, encoded, search):
            heard.append((float(encoded[0]), search.frame, search.predicted[0, 0]))

    start = partial(Search, Decoder(), SearchConfig(), 2, ())
    search = PassSearch(start, [Listener()], delay=3, first_frame=7)
    search.take(np.array([[9.0], [8.0]]))
    search.take(np.array([[6.0], [3.0], [0.0], [5.0]]))
    assert [(t.label, t.frame) for t in search.tokens] == [(3, 7), (5, 9)]
    # After each frame's own labels; the number is that of the next frame.
    assert heard == [(3.0, 8, 3.0), (0.0, 9, 3.0), (5.0, 10, 5.0)]
