from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_qat.data.manifest import Utterance
from asr_qat.data.plan import DataError, evaluation_plan, make_buckets, training_plan


def _corpus(durations):
    return [
        Utterance(audio_filepath=Path(f"/{i}.wav"), duration=d, text="", speaker="s", id=f"u{i}")
        for i, d in enumerate(durations)
    ]


def _buckets(durations, labels=None, **settings):
    settings = {"bucket_seconds": (1.0, 2.0, 4.0), "tail_ms": 320, **settings}
    labels = labels or [[1]] * len(durations)
    return make_buckets(_corpus(durations), labels, **settings)


def test_buckets():
    buckets = _buckets([0.5, 1.0, 1.01, 3.9], [[1] * 5, [1], [1] * 2, [1] * 20])
    assert [b.members for b in buckets] == [(0, 1), (2,), (3,)]
    assert [b.samples for b in buckets] == [21120, 37120, 69120]
    assert all(b.samples % 640 == 0 for b in buckets)
    # U rises even where the labels get fewer.
    assert [b.labels for b in buckets] == [8, 12, 20]


def test_margin_and_empty_buckets():
    buckets = _buckets([0.99, 3.99], margin=1.05)
    assert [(b.members, b.samples) for b in buckets] == [((0,), 37120), ((1,), 69120)]


def test_too_long_utterances_are_skipped_with_a_warning(caplog):
    buckets = _buckets([1.0, 4.5, 7.0])
    assert [b.members for b in buckets] == [(0,)]
    assert "2 of 3 utterances are longer than the largest bucket (4 s)" in caplog.text
    with pytest.raises(DataError, match="at most 4.0 s"):
        _buckets([5.0])
    with pytest.raises(DataError, match="got 0"):
        _buckets([])


def test_more_labels_than_frames():
    # 0.5 + 0.32 s: 20 encoder frames of 5 symbols.
    _buckets([0.5], [[1] * 100])
    with pytest.raises(DataError, match="'u0' .*: 101 labels in 0.50 s; its 20 encoder frames"):
        _buckets([0.5], [[1] * 101])


@pytest.mark.parametrize("limits", [(), (0.0, 1.0), (2.0, 1.0), (1.0, 1.0)])
def test_bad_limits(limits):
    with pytest.raises(ValueError, match="rising"):
        _buckets([1.0], bucket_seconds=limits)


DURATIONS = st.lists(st.floats(0.1, 4.0), min_size=1, max_size=60)


@given(DURATIONS, st.integers(1, 9), st.integers(0, 3))
def test_training_plans(durations, batch_size, epoch):
    buckets = _buckets(durations)
    plan = training_plan(buckets, batch_size, 7, epoch)
    assert plan == training_plan(buckets, batch_size, 7, epoch)
    assert (
        len(plan)
        == len(training_plan(buckets, batch_size, 8, 0))
        == -(-len(durations) // batch_size)
    )
    assert all(len(batch.members) == batch_size for batch in plan)
    uses = Counter(m for batch in plan for m in batch.members)
    assert set(uses) == set(range(len(durations)))
    for batch in plan:
        room = (1.0, 2.0, 4.0)[[21120, 37120, 69120].index(buckets[batch.bucket].samples)]
        assert all(durations[m] <= room for m in batch.members)
    if len(buckets[-1].members) >= batch_size:
        assert max(uses.values()) <= 2
        assert all(len(set(batch.members)) == batch_size for batch in plan)


def test_epochs_are_shuffled_anew():
    buckets = _buckets([0.5] * 20 + [1.5] * 20)
    plans = [training_plan(buckets, 4, 0, epoch) for epoch in range(3)]
    assert plans[0] != plans[1] != plans[2]
    assert plans[0] != training_plan(buckets, 4, 1, 0)


@given(DURATIONS, st.integers(1, 9))
def test_evaluation_plans(durations, batch_size):
    plan = evaluation_plan(_buckets(durations), batch_size)
    assert sorted(m for batch in plan for m in batch.members) == list(range(len(durations)))
    assert [b.bucket for b in plan] == sorted(b.bucket for b in plan)
