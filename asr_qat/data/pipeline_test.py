import itertools
import logging
from collections import Counter
from typing import Any

import numpy as np
import pytest

from asr_qat.data.audio import load_audio, write_wav
from asr_qat.data.augment import WaveAugment
from asr_qat.data.digits import DIGIT_WORDS
from asr_qat.data.manifest import Utterance
from asr_qat.data.pipeline import DataError, make_dataset
from asr_qat.data.tokenizer import CharacterTokenizer, LabelError

TOKENIZER = CharacterTokenizer.from_texts(DIGIT_WORDS)
SETTINGS: dict[str, Any] = {"batch_size": 4, "bucket_seconds": (0.3, 0.6, 1.2)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    utterances = []
    for i in range(30):
        samples = 0.1 * rng.standard_normal(int(rng.uniform(0.15, 1.1) * 16000))
        path = folder / f"{i}.wav"
        write_wav(path, samples)
        utterances.append(
            Utterance(
                audio_filepath=path,
                duration=len(samples) / 16000,
                text=DIGIT_WORDS[i % 10],
                speaker="s",
                id=f"u{i}",
            )
        )
    return utterances


def _same(a, b):
    return all(np.array_equal(a[key], b[key]) for key in a)


def _equal(batches, others):
    batches, others = list(batches), list(others)
    return len(batches) == len(others) and all(map(_same, batches, others))


def _first_samples(utterances):
    return {load_audio(u.audio_filepath)[:8].tobytes(): u for u in utterances}


def test_batches_hold_what_the_files_hold(corpus):
    dataset = make_dataset(corpus, TOKENIZER, shuffle=False, **SETTINGS)
    by_content = _first_samples(corpus)
    seen = []
    for batch in dataset:
        rows, width = batch["audio"].shape
        assert {key: (value.dtype.name, value.shape[0]) for key, value in batch.items()} == {
            "audio": ("float32", rows),
            "audio_length": ("int32", rows),
            "labels": ("int32", rows),
            "label_length": ("int32", rows),
        }
        for row in range(rows):
            utterance = by_content[batch["audio"][row, :8].tobytes()]
            length = batch["audio_length"][row] - 5120
            expected = load_audio(utterance.audio_filepath)
            np.testing.assert_array_equal(batch["audio"][row, :length], expected)
            assert not batch["audio"][row, length:].any()
            assert batch["audio_length"][row] <= width
            labels = batch["labels"][row]
            count = batch["label_length"][row]
            assert TOKENIZER.decode(labels[:count]) == utterance.text
            assert not labels[count:].any()
            seen.append(utterance.id)
    assert sorted(seen) == sorted(u.id for u in corpus)


def test_training_epochs(corpus):
    dataset = make_dataset(corpus, TOKENIZER, shuffle=True, epochs=3, seed=1, **SETTINGS)
    batches = list(dataset)
    assert dataset.steps_per_epoch == 8
    assert len(batches) == 24
    assert all(batch["audio"].shape[0] == 4 for batch in batches)
    shapes = {(b["audio"].shape, b["labels"].shape) for b in batches[2:]}
    assert len(shapes) <= 3
    by_content = _first_samples(corpus)
    orders = []
    for epoch in range(3):
        rows = [row for b in batches[8 * epoch : 8 * epoch + 8] for row in b["audio"]]
        ids = [by_content[row[:8].tobytes()].id for row in rows]
        assert set(ids) == {u.id for u in corpus}
        orders.append(ids)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("augment", [None, WaveAugment()])
def test_threads_and_caches_change_nothing(corpus, augment):
    def batches(**settings):
        settings = {"seed": 5, "epochs": 2, "num_threads": 2, **settings}
        return make_dataset(
            corpus, TOKENIZER, shuffle=True, augment=augment, **SETTINGS, **settings
        )

    reference = list(batches())
    assert _equal(reference, batches(num_threads=0))
    assert _equal(reference, batches(cache_bytes=0))
    assert _equal(reference, batches(cache_bytes=100_000))
    assert not _equal(reference, batches(seed=6))


def test_resuming_gives_the_rest(corpus):
    settings: dict[str, Any] = {
        "shuffle": True,
        "epochs": 3,
        "seed": 2,
        "augment": WaveAugment(),
        **SETTINGS,
    }
    reference = list(make_dataset(corpus, TOKENIZER, **settings))
    for start in (1, 8, 13, 23):
        rest = list(make_dataset(corpus, TOKENIZER, start_step=start, **settings))
        assert len(rest) == len(reference) - start
        for offset, batch in enumerate(rest):
            expected = reference[start + offset]
            np.testing.assert_array_equal(batch["audio_length"], expected["audio_length"])
            np.testing.assert_array_equal(batch["label_length"], expected["label_length"])
            for key in ("audio", "labels"):  # the padding may differ
                width = min(batch[key].shape[1], expected[key].shape[1])
                np.testing.assert_array_equal(batch[key][:, :width], expected[key][:, :width])
                assert not batch[key][:, width:].any() and not expected[key][:, width:].any()


def test_iterator_state_restores(corpus):
    dataset = make_dataset(corpus, TOKENIZER, shuffle=True, epochs=2, **SETTINGS)
    iterator = iter(dataset)
    for _ in range(5):
        next(iterator)
    state = iterator.get_state()
    rest = list(iterator)
    again = iter(dataset)
    again.set_state(state)
    assert _equal(rest, again)


def test_endless(corpus):
    dataset = make_dataset(corpus, TOKENIZER, shuffle=True, epochs=None, **SETTINGS)
    assert len(list(itertools.islice(dataset, 40))) == 40


def test_augmented_audio_fits_and_varies(corpus):
    augment = WaveAugment(speed_probability=1.0)
    lengths: Counter[int] = Counter()
    dataset = make_dataset(corpus, TOKENIZER, shuffle=True, epochs=4, augment=augment, **SETTINGS)
    for batch in dataset:
        assert (batch["audio_length"] <= batch["audio"].shape[1]).all()
        assert np.isfinite(batch["audio"]).all() and np.abs(batch["audio"]).max() <= 1.0
        for row, length in zip(batch["audio"], batch["audio_length"], strict=True):
            assert not row[length - 5120 :].any()
        lengths.update(batch["audio_length"].tolist())
    assert len(lengths) > 60


@pytest.mark.parametrize("start_step", range(12))
@pytest.mark.parametrize("shuffle", [True, False])
def test_first_two_shapes_differ_for_keras(corpus, shuffle, start_step):
    dataset = make_dataset(
        corpus, TOKENIZER, shuffle=shuffle, epochs=2, start_step=start_step, **SETTINGS
    )
    first, second = dataset.source[0], dataset.source[1]
    for key in ("audio", "labels"):
        assert first[key].shape[1] != second[key].shape[1]


def test_bad_recordings(corpus, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    short = tmp_path / "short.wav"
    write_wav(short, np.ones(1600, np.float32) * 0.1)
    bad = {
        3: Utterance(audio_filepath=broken, duration=0.5, text="one", speaker="s", id="x"),
        7: Utterance(audio_filepath=short, duration=0.9, text="one", speaker="s", id="y"),
    }
    mixed = [bad.get(i, utterance) for i, utterance in enumerate(corpus)]
    settings = {**SETTINGS, "max_bad_share": 0.1}
    training = list(make_dataset(mixed, TOKENIZER, shuffle=True, epochs=3, **settings))
    assert all(batch["audio"].shape[0] == 4 for batch in training)
    assert caplog.text.count("broken.wav") == 1
    assert caplog.text.count("short.wav: 0.10 s long, where the manifest says 0.90 s") == 1
    evaluation = list(make_dataset(mixed, TOKENIZER, shuffle=False, **settings))
    assert sum(len(batch["audio"]) for batch in evaluation) == 28
    again = list(make_dataset(mixed, TOKENIZER, shuffle=True, epochs=3, num_threads=0, **settings))
    assert _equal(training, again)


def test_too_many_bad_recordings(corpus, tmp_path):
    absent = Utterance(
        audio_filepath=tmp_path / "absent.wav", duration=0.5, text="one", speaker="s", id="x"
    )
    for threads in (0, 2):
        dataset = make_dataset(
            [*corpus, absent], TOKENIZER, shuffle=True, num_threads=threads, **SETTINGS
        )
        with pytest.raises(DataError, match=r"1 of 31 recordings(.|\n)*absent.wav"):
            list(dataset)
    alone = make_dataset([absent], TOKENIZER, shuffle=False, max_bad_share=1.0, **SETTINGS)
    with pytest.raises(DataError, match="none of the recordings(.|\n)*absent.wav"):
        list(alone)


def test_bad_arguments(corpus):
    with pytest.raises(LabelError, match="'z'.*zero"):
        make_dataset(corpus, CharacterTokenizer("one"), shuffle=True, **SETTINGS)
    for bad in ({"batch_size": 0}, {"tail_ms": -1}, {"epochs": 0}, {"start_step": -1}):
        with pytest.raises(ValueError, match="expected batch_size"):
            make_dataset(corpus, TOKENIZER, shuffle=True, **{**SETTINGS, **bad})
    with pytest.raises(ValueError, match="start_step < 8"):
        make_dataset(corpus, TOKENIZER, shuffle=True, start_step=8, **SETTINGS)
