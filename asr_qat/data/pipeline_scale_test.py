"""The input pipeline on several processes and on shards."""

import itertools
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asr_qat.data.audio import write_wav
from asr_qat.data.augment import WaveAugment
from asr_qat.data.corpus import finish_corpus, plan_corpus, write_shard
from asr_qat.data.digits import DIGIT_WORDS
from asr_qat.data.ends import FrameClasses
from asr_qat.data.manifest import Utterance
from asr_qat.data.pipeline import DataError, make_dataset
from asr_qat.data.sounds import RecordedSounds
from asr_qat.data.tokenizer import CharacterTokenizer

TOKENIZER = CharacterTokenizer.from_texts(DIGIT_WORDS)
SETTINGS: dict[str, Any] = {"bucket_seconds": (0.3, 0.6, 1.2), "max_bad_share": 0.2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """28 recordings, 3 of which cannot be read."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    utterances = []
    for i in range(28):
        samples = 0.1 * rng.standard_normal(int(rng.uniform(0.15, 1.1) * 16000))
        path = folder / f"{i}.wav"
        write_wav(path, samples)
        if i in (3, 4, 11):
            path.write_bytes(b"no audio")
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


@pytest.fixture(scope="module")
def shards(corpus, tmp_path_factory):
    """The readable ones in three shards; and the utterances in the same order as files."""
    folder = tmp_path_factory.mktemp("shards")
    good = [u for i, u in enumerate(corpus) if i not in (3, 4, 11)]
    for task in plan_corpus(good, folder, "train", shards=3):
        write_shard(task)
    found = finish_corpus(folder, "train", shards=3, max_bad_share=0.0).utterances
    files = {u.id: u for u in good}
    return found, [files[u.id] for u in found]


def _equal(batches, others):
    batches, others = list(batches), list(others)
    return len(batches) == len(others) and all(
        a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
        for a, b in zip(batches, others, strict=True)
    )


def _batches(utterances, count=None, **arguments):
    arguments = {"shuffle": True, "num_threads": 0, **SETTINGS, **arguments}
    return list(itertools.islice(make_dataset(utterances, TOKENIZER, **arguments), count))


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 4),
    rows=st.integers(1, 4),
    seed=st.integers(0, 99),
    start=st.integers(0, 9),
    augment=st.sampled_from([None, WaveAugment()]),
)
def test_parts_of_processes_are_the_batch_of_one(corpus, count, rows, seed, start, augment):
    assume(count * rows > 3)  # a batch of bad recordings alone is an error
    arguments = {
        "batch_size": count * rows,
        "seed": seed,
        "start_step": start,
        "augment": augment,
        "epochs": None,
        "ends": [FrameClasses(frame_samples=640)],
    }
    whole = _batches(corpus, 8, **arguments)
    parts = [
        _batches(corpus, 8, process_index=index, process_count=count, **arguments)
        for index in range(count)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert _equal(joined, whole)
    assert all(len(batch["audio"]) == rows for part in parts for batch in part)


def test_epochs_have_as_many_steps_in_every_process(corpus):
    for index in range(4):
        dataset = make_dataset(
            corpus,
            TOKENIZER,
            batch_size=8,
            shuffle=True,
            process_index=index,
            process_count=4,
            **SETTINGS,
        )
        assert dataset.steps_per_epoch == 4 and len(list(dataset)) == 4


def test_evaluation_is_whole_in_every_process(corpus):
    arguments = {"batch_size": 8, "shuffle": False}
    whole = _batches(corpus, **arguments)
    assert sum(len(batch["audio"]) for batch in whole) == 25
    assert _equal(_batches(corpus, process_index=1, process_count=2, **arguments), whole)


@pytest.mark.parametrize("index, count, size", [(0, 3, 8), (2, 2, 8), (-1, 2, 8), (0, 0, 8)])
def test_parts_that_make_no_sense(corpus, index, count, size):
    with pytest.raises(ValueError, match="batch_size that process_count divides, got"):
        _batches(corpus, batch_size=size, process_index=index, process_count=count)


def test_recorded_sounds_in_batches(corpus):
    arguments = {"batch_size": 4, "augment": WaveAugment(noise_probability=1.0)}
    sounds = RecordedSounds(noises=corpus[:3], rooms=corpus[5:7])
    first = _batches(corpus, sounds=sounds, **arguments)
    again = _batches(
        corpus,
        sounds=RecordedSounds(noises=corpus[:3], rooms=corpus[5:7]),
        **{**arguments, "num_threads": 2},
    )
    assert _equal(first, again)
    assert not _equal(first, _batches(corpus, **arguments))


def test_shards_feed_what_files_feed(shards):
    in_shards, in_files = shards
    arguments = {"batch_size": 4, "augment": WaveAugment(), "num_threads": 2, "epochs": 2}
    assert _equal(_batches(in_shards, **arguments), _batches(in_files, **arguments))


@pytest.mark.parametrize("threads", [0, 2])
def test_a_shard_that_vanishes_ends_training_with_its_name(shards, threads):
    utterances, _ = shards
    arguments: dict[str, Any] = {
        "batch_size": 4,
        "shuffle": True,
        "epochs": None,
        "cache_bytes": 0,
        "num_threads": threads,
        **SETTINGS,
        "max_bad_share": 1.0,
    }
    reference = _batches(utterances, 40, **arguments)
    shard = utterances[0].audio_filepath.parent / "train-00001-of-00003.array_record"
    seen = []
    try:
        with pytest.raises(DataError, match=r"train-00001-of-00003.*missing.*Restore it") as error:
            dataset = make_dataset(utterances, TOKENIZER, **arguments)
            for batch in dataset:
                seen.append(batch)
                if len(seen) == 5:
                    os.rename(shard, shard.with_suffix(".away"))
    finally:
        os.rename(shard.with_suffix(".away"), shard)
    assert "training goes on" in str(error.value)
    # Batches that were made ahead may still come, no later ones.
    assert 5 <= len(seen) <= 5 + 4 * threads + threads + 4
    rest = _batches(utterances, 40 - len(seen), **{**arguments, "start_step": len(seen)})
    width = min(len(seen) + 2, 38)  # the first two shapes may differ
    assert _equal(rest[2:], reference[width:])
