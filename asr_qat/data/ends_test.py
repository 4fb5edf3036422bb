"""What endpointers and end joints learn: segments, classes, labels, and the batches with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_qat.data.audio import write_wav
from asr_qat.data.augment import WaveAugment
from asr_qat.data.ends import (
    FINAL,
    IGNORED,
    INITIAL,
    INTERMEDIATE,
    SPEECH,
    EndLabels,
    FrameClasses,
    detect_speech,
    ends_after_pauses,
    frame_classes,
    labels_before_ends,
    speech_of,
    with_ends,
)
from asr_qat.data.manifest import Utterance
from asr_qat.data.pipeline import make_dataset
from asr_qat.data.plan import DataError
from asr_qat.data.tokenizer import CharacterTokenizer, train_sentencepiece

TOKENIZER = CharacterTokenizer("ab ")


def utterance(text="ab a b", **extra):
    path = Path("/nowhere.wav")
    return Utterance(audio_filepath=path, duration=1.0, text=text, speaker="s", id="u", extra=extra)


def sound(*parts, seed=0):
    """Noise of `(seconds, level)` after one another, in steps of 20 ms, with a faint floor."""
    rng = np.random.default_rng(seed)
    levels = np.concatenate([np.full(round(seconds * 16000), level) for seconds, level in parts])
    return ((levels + 1e-3) * rng.normal(size=levels.size)).astype(np.float32)


def near(segments, expected):
    return np.shape(segments) == np.shape(expected) and np.allclose(segments, expected, atol=0.021)


def test_speech_is_where_it_is_loud():
    parts = ((0.3, 0), (0.5, 0.1), (0.4, 0), (0.3, 0.03), (0.5, 0))
    assert near(detect_speech(sound(*parts)), [(0.3, 0.8), (1.2, 1.5)])
    # In digital silence as well, and however loud the whole is.
    assert near(detect_speech(sound(*parts).round(2)), [(0.3, 0.8), (1.2, 1.5)])
    assert near(detect_speech(0.05 * sound(*parts)), [(0.3, 0.8), (1.2, 1.5)])


def test_short_pauses_are_filled_and_clicks_left_out():
    parts = ((0.4, 0), (0.3, 0.1), (0.15, 0), (0.3, 0.1), (0.4, 0), (0.03, 0.1), (0.4, 0))
    assert near(detect_speech(sound(*parts)), [(0.4, 1.15)])


def test_one_level_is_all_or_nothing():
    assert detect_speech(sound((1.0, 0.1))) == [(0.0, 1.0)]
    assert detect_speech(0.1 * sound((1.0, 0))) == detect_speech(np.zeros(0, np.float32)) == []


def test_segments_of_the_manifest_win_over_the_energy():
    wave = sound((0.5, 0.1), (0.5, 0))
    assert speech_of(utterance(segments=[[0, 0.2], [0.3, 1]]), wave) == [(0.0, 0.2), (0.3, 1.0)]
    assert speech_of(utterance(segments=[]), wave) == []
    assert near(speech_of(utterance(), wave), [(0, 0.5)])


@pytest.mark.parametrize(
    "segments", [[[0.5, 0.2]], [[0, 1], [0.5, 2]], [[-1, 2]], [1], [["a", 1]], 3, [[0, 0]]]
)
def test_segments_that_cannot_be(segments):
    with pytest.raises(DataError, match=r"utterance 'u': segments .*; expected rising \[start"):
        speech_of(utterance(segments=segments), np.zeros(16000, np.float32))


def test_a_frame_has_the_class_of_its_middle():
    # Frames of 40 ms: middles at 20, 60, 100 ms and so on.
    segments = [(0.05, 0.13), (0.21, 0.25)]
    classes = frame_classes(segments, 640 * 9 + 639, 11, 640).tolist()
    assert classes == [
        INITIAL,  # 20 ms
        *(SPEECH, SPEECH),  # 60, 100
        *(INTERMEDIATE, INTERMEDIATE),  # 140, 180
        SPEECH,  # 220
        *(FINAL, FINAL, FINAL),  # 260 to 340
        *(IGNORED, IGNORED),  # not wholly within the samples
    ]
    assert frame_classes([], 1280, 3, 640).tolist() == [INITIAL, INITIAL, IGNORED]


def test_ends_stand_after_words_with_a_pause():
    words = [(0.1, 0.4), (0.5, 0.9), (1.3, 1.5), (1.9, 2.0)]
    assert ends_after_pauses(words, 400) == [2, 3] and ends_after_pauses(words, 100) == [1, 2, 3]
    assert ends_after_pauses(words, 1000) == ends_after_pauses([], 100) == []


def test_labels_with_ends():
    assert with_ends([1, 2, 3], [3], 9) == [1, 2, 3, 9]
    assert with_ends([1, 2, 3], [1, 3], 9) == [1, 9, 2, 3, 9]
    assert with_ends([], [0], 9) == [9]


@pytest.mark.parametrize("text", ["ab a b", " ab  a b "])
def test_ends_of_words_as_counts_of_labels(text):
    row = utterance(text, ends=[1, 2])
    labels = TOKENIZER.encode(text)
    counts = labels_before_ends(row, labels, TOKENIZER)
    assert [TOKENIZER.decode(labels[:count]) for count in counts] == [
        "ab",
        TOKENIZER.decode(TOKENIZER.encode(text.rstrip()[:-2])),
        TOKENIZER.decode(labels),
    ]
    assert counts[-1] == len(labels)
    # The last word's end is one in any case.
    assert labels_before_ends(utterance(text, ends=[3]), labels, TOKENIZER)[-1] == len(labels)


def test_ends_of_word_pieces():
    texts = ["the cat sat", "the mat", "a cat on the mat sat"]
    tokenizer = train_sentencepiece(texts, 15)
    row = utterance(texts[2], ends=[2, 5])
    labels = tokenizer.encode(row.text)
    counts = labels_before_ends(row, labels, tokenizer)
    heard = [tokenizer.decode(labels[:count]) for count in counts]
    assert heard == ["a cat", "a cat on the mat", row.text]


@pytest.mark.parametrize("ends", [[0], [4], ["1"], [1.0]])
def test_ends_that_cannot_be(ends):
    with pytest.raises(DataError, match="expected numbers of its 3 words, from 1"):
        labels_before_ends(utterance(ends=ends), TOKENIZER.encode("ab a b"), TOKENIZER)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for i in range(6):
        samples = sound((0.2, 0), (0.2, 0.1), (0.3, 0), (0.2 + 0.1 * i, 0.1), (0.3, 0), seed=i)
        path = folder / f"{i}.wav"
        write_wav(path, samples)
        extra = {"ends": [1]} if i % 2 else {}
        rows.append(
            Utterance(
                audio_filepath=path,
                duration=len(samples) / 16000,
                text="ab ba" if i % 2 else "",
                speaker="s",
                id=f"u{i}",
                extra=extra,
            )
        )
    return rows


TARGETS = (
    FrameClasses(frame_samples=640),
    EndLabels(name="eou", symbol=4, of_segments=False),
    EndLabels(name="eos", symbol=4, of_segments=True),
)
SETTINGS: dict[str, Any] = {"batch_size": 2, "bucket_seconds": (1.5, 2.5)}


def test_batches_have_the_fields(corpus):
    for batch in make_dataset(corpus, TOKENIZER, shuffle=False, ends=TARGETS, **SETTINGS):
        rows, samples = batch["audio"].shape
        assert batch["frame_classes"].shape == (rows, samples // 640)
        assert batch["eou_labels"].shape[1] == batch["labels"].shape[1] + 1
        assert batch["eos_labels"].shape[1] == batch["labels"].shape[1] + 2
        for row in range(rows):
            length = batch["eou_label_length"][row]
            ids = batch["labels"][row, : batch["label_length"][row]].tolist()
            assert batch["eou_labels"][row, :length].tolist() == [*ids, 4]
            expected = [*ids[:2], 4, *ids[2:], 4] if ids else [4]
            assert batch["eos_labels"][row, : batch["eos_label_length"][row]].tolist() == expected
            classes = batch["frame_classes"][row]
            frames = batch["audio_length"][row] // 640
            assert (classes[:frames] >= 0).all() and (classes[frames:] == IGNORED).all()
            # 200 ms of silence: 5 frames; then 5 of speech, and 300 ms of a pause.
            assert classes[:17].tolist() == [INITIAL] * 5 + [SPEECH] * 5 + [INTERMEDIATE] * 7
            # 300 ms at the end of the recording and 320 of the tail.
            assert abs(np.sum(classes == FINAL) - 15) <= 1


def test_without_targets_batches_are_as_they_were(corpus):
    plain, more = (
        make_dataset(corpus, TOKENIZER, shuffle=True, augment=WaveAugment(), ends=ends, **SETTINGS)
        for ends in ((), TARGETS)
    )
    for a, b in zip(plain, more, strict=True):
        assert set(b) - set(a) == {
            *("frame_classes", "eou_labels", "eou_label_length"),
            *("eos_labels", "eos_label_length"),
        }
        for key, value in a.items():
            np.testing.assert_array_equal(value, b[key])


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_segments_follow_a_change_of_speed(corpus, factor):
    faster = WaveAugment(
        speed_probability=1.0, speed_range=(factor, factor), noise_probability=0.0,
        reverb_probability=0.0, band_limit_probability=0.0, gain_probability=0.0,
    )  # fmt: skip
    settings = {**SETTINGS, "bucket_seconds": (2.5,)}  # room for the slower ones
    seen = 0
    for batch in make_dataset(
        corpus, TOKENIZER, shuffle=True, augment=faster, ends=TARGETS[:1], **settings
    ):
        for wave, classes in zip(batch["audio"], batch["frame_classes"], strict=True):
            level = np.abs(wave.reshape(-1, 640)).mean(axis=1)
            loud = level > 0.02
            assert np.sum(loud != (classes == SPEECH)) <= 3  # frames on an edge
            seen += np.sum(loud)
    assert seen > 60
