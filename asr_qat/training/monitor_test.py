import io
import re

import keras
import pytest

from asr_qat.models.presets import nano
from asr_qat.models.transducer import Transducer
from asr_qat.training.feed import Feed
from asr_qat.training.fit_test import data
from asr_qat.training.monitor import Speed, loss_memory
from asr_qat.training.testing import TinyModel, noise_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return noise_corpus(tmp_path_factory.mktemp("corpus"), 10, (0.4, 1.2))


def test_speed(corpus):
    stream, train = io.StringIO(), data(corpus)
    speed = Speed(train.source, stream)
    model = TinyModel()
    model.compile(keras.optimizers.SGD(1e-3))
    history = model.fit(
        Feed(train).batches,
        epochs=2,
        steps_per_epoch=5,
        callbacks=[speed],
        shuffle=False,
        verbose=0,
    ).history
    lines = stream.getvalue().splitlines()
    assert lines[0] == (
        "2 batch shapes, each compiled when it first comes: 1.1 s x 4 labels; 1.6 s x 8 labels"
    )
    assert lines[1].startswith("shape 1 of 2 (") and lines[2].startswith("shape 2 of 2 (")
    assert len(lines) == 3
    members = [i for step in range(10) for i in train.source.planned(step)[1].members]
    hours = sum(corpus[i].duration for i in members) / 3600
    assert speed.total_hours == pytest.approx(hours)
    last = [i for step in range(5, 10) for i in train.source.planned(step)[1].members]
    seconds = 5 * history["step_ms"][1] / 1000
    audio = sum(corpus[i].duration for i in last)
    assert history["audio_h_per_h"][1] == pytest.approx(audio / seconds)
    assert history["step_ms"][0] < 1000 * speed.total_seconds / 5  # compilation is left out
    assert history["learning_rate"] == [pytest.approx(1e-3)] * 2


def test_the_memory_of_the_loss_is_told(corpus):
    train = data(corpus)
    model = Transducer(nano(), {"pieces": ["<blank>", *"abcdefg"]})
    bucket = max(train.source.buckets, key=lambda bucket: bucket.samples)
    found = loss_memory(model, train.source)
    frames, width = bucket.samples // 640, bucket.labels + 1
    assert f"[{train.source.batch_size}, {frames}] x {width} x 8, would take 0 MiB" in found
    assert re.match(r"the loss takes about \d MiB at most; ", found)
