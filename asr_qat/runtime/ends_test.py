"""Who listens for ends on a stream."""

import types
from typing import Any

import numpy as np
import pytest

from asr_qat.runtime import ends as ends_module
from asr_qat.runtime.search.hypothesis import Token

# They get stand-ins here, which are of other types than theirs.
EndListener: Any = ends_module.EndListener
FrameTrack: Any = ends_module.FrameTrack
SegmentListener: Any = ends_module.SegmentListener
StreamEnds: Any = ends_module.StreamEnds


class Joint:
    """The probability is the frame itself."""

    def __init__(self, kind="utterance", reads="first"):
        self.kind, self.reads, self.asked = kind, reads, 0

    def probability(self, encoded, predicted):
        self.asked += 1
        return float(encoded[0])


def hear(listener, frames):
    """Frames as (probability, labels so far)."""
    for number, (probability, labels) in enumerate(frames):
        search = types.SimpleNamespace(
            frame=number + 1, predicted=None, tokens=[Token(1, 0)] * labels
        )
        listener.hear(np.array([probability]), search)
    return listener.frames


def test_an_end_is_heard_from_the_threshold_on():
    frames = [(0.1, 0), (0.5, 0), (0.49, 1), (0.9, 1)]
    assert hear(EndListener(Joint(), 0.5), frames) == [1, 3]
    assert hear(EndListener(Joint(), 1.1), frames) == []


def test_a_segment_ends_once_for_its_labels():
    joint = Joint("segment")
    frames = [(0.9, 0), (0.1, 1), (0.9, 1), (0.9, 1), (0.9, 2), (0.9, 2), (0.1, 3), (0.6, 3)]
    assert hear(SegmentListener(joint, 0.5), frames) == [2, 4, 7]
    assert joint.asked == 5  # not where it could not be an end


class Endpointer:
    depth, frame_seconds = 2, 0.04

    def hear(self, encoded, state):
        return [("speech", "initial_silence", "final_silence")[int(k)] for k in encoded]


def test_silence_is_counted_from_the_last_speech():
    track = FrameTrack(Endpointer())
    assert track.last is None and track.silence_seconds == 0.0 and track.depth == 2
    for chunk, last, seconds in (
        ([1, 1, 1], "initial_silence", 0.12),
        ([1, 0], "speech", 0.0),
        ([0, 2, 2], "final_silence", 0.08),
        ([2], "final_silence", 0.12),
    ):
        track.take(chunk)
        assert track.last == last and track.silence_seconds == pytest.approx(seconds)


def test_joints_are_listened_to_by_kind_and_pass():
    joints = [Joint(), Joint(reads="second"), Joint("segment")]
    ends = StreamEnds([Endpointer()], joints, {"utterance": 0.5, "segment": 0.5})
    assert [x.joint for x in ends.reading("first")] == [joints[0], joints[2]]
    assert [x.joint for x in ends.reading("second")] == [joints[1]] and not ends.reading("third")
    assert not ends.heard("utterance")
    ends.reading("second")[0].frames.append(3)
    assert ends.heard("utterance") and not ends.heard("segment")
    deaf = StreamEnds([], joints, {"utterance": None, "segment": None})
    assert not deaf.reading("first") and not deaf.heard("utterance")
