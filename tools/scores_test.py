"""Tests of the scores of `asr-qat evaluate`, on transcripts made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from asr_qat.data.manifest import Utterance
from asr_qat.metrics.normalization import parse_normalization
from asr_qat.tools.heard import Heard, read_heard
from asr_qat.tools.scores import LENGTHS, Scoring, check, length_bucket, score

QUICK = Scoring(resamples=200)


def utterance(name, text, speaker="s"):
    return Utterance(
        audio_filepath=Path(f"{name}.wav"), duration=2.0, text=text, speaker=speaker, id=name
    )


def heard(texts, path="a.tflite"):
    return Heard(
        path=path,
        decoding_pass="encoder",
        search="greedy",
        texts=texts,
        audio_seconds=[2.0] * len(texts),
        processing_seconds=[0.1] * len(texts),
    )


SET = [
    utterance("1", "one two three", "t"),
    utterance("2", "four"),
    utterance("3", "", "t"),
    utterance("4", "a b c d e f"),
]
A = ["one two three", "five", "", "a b c d e f"]
B = ["one too", "fife", "yes", "a b c d e f"]


def test_counts_rates_and_groups():
    scores = score([heard(A), heard(B, "b.tflite")], SET, QUICK)
    assert scores["utterance_count"] == 4 and scores["references_without_words"] == 1
    one, other = scores["files"]
    assert (one["substitutions"], one["deletions"], one["insertions"], one["words"]) == (
        1,
        0,
        0,
        10,
    )
    assert one["wer"] == 0.1 and one["minus_first"] is None and one["cer"]["minus_first"] is None
    assert one["cer"]["cer"] == 3 / 28 and one["cer"]["characters"] == 28  # "four" as "five"
    assert one["real_time_factor"] == pytest.approx(0.05)
    assert (other["wer"], other["minus_first"]["difference"]) == (0.4, pytest.approx(0.3))
    assert other["minus_first"]["matched_pairs"]["differing"] == 2
    assert [(g["group"], g["utterances"], g["wer"]) for g in other["by_length"]] == [
        ("0", 1, None),
        ("1-5", 2, 0.75),
        ("6-10", 1, 0.0),
    ]
    assert [(g["group"], g["words"], g["insertions"]) for g in other["by_speaker"]] == [
        ("s", 7, 0),
        ("t", 3, 1),
    ]
    json.dumps(scores, allow_nan=False)


def test_differences_are_most_changed_first():
    scores = score([heard(A), heard(B, "b.tflite")], SET, QUICK)
    found = scores["differences"]
    assert [row["id"] for row in found] == ["1", "3", "2"]  # 2 errors more, 1 more, as many
    assert found[0]["texts"] == ["one two three", "one too"] and found[0]["errors"] == [0, 2]
    assert SET[found[1]["index"]].id == "3"
    assert score([heard(A), heard(A)], SET, QUICK)["differences"] == []


def test_nothing_is_normalized_unless_asked():
    references = [utterance("1", "Don’t stop."), utterance("2", "two 2")]
    texts = ["don't stop", "two two"]
    plain = score([heard(texts)], references, QUICK)
    assert (plain["files"][0]["substitutions"], plain["references_changed"]) == (3, 0)
    assert plain["prose_references"] == 1
    steps = Scoring(normalization=parse_normalization("lower,punctuation"))
    scores = score([heard(["Don't Stop", "two two"])], references, steps)
    file = scores["files"][0]
    assert (file["substitutions"], file["hypotheses_changed"]) == (1, 1)  # "2" stays "2"
    assert (scores["references_changed"], scores["prose_references"]) == (1, 0)
    assert file["utterances"][0]["text"] == "Don't Stop"  # as it was heard


def test_speakers_as_units():
    """Two speakers who differ: wider than the intervals of 40 utterances."""
    rows = [utterance(str(i), "a b", "st"[i % 2]) for i in range(40)]
    texts = ["a b" if i % 2 else "a c" for i in range(40)]
    right = heard(["a b"] * 40)
    by_unit = {
        unit: score([right, heard(texts)], rows, Scoring(unit=unit, resamples=200))["files"][1]
        for unit in ("utterance", "speaker")
    }
    spread = {unit: np.ptp(file["interval"]) for unit, file in by_unit.items()}
    assert spread["speaker"] == 0.5 and 0.05 < spread["utterance"] < 0.25
    tests = {unit: file["minus_first"]["matched_pairs"] for unit, file in by_unit.items()}
    assert (tests["speaker"]["segments"], tests["utterance"]["segments"]) == (2, 40)
    assert tests["utterance"]["p_value"] < 0.001 < 0.3 < tests["speaker"]["p_value"]


def test_one_utterance_cannot_be_tested():
    file = score([heard(["a"]), heard(["b"])], [utterance("1", "a")], QUICK)["files"][1]
    assert file["minus_first"]["matched_pairs"] is None
    assert file["minus_first"]["difference"] == 1.0


def test_check():
    with pytest.raises(ValueError, match="m.jsonl: expected references with words, got 1"):
        check(
            [utterance("1", "?!")],
            Scoring(normalization=parse_normalization("punctuation")),
            "m.jsonl",
        )
    check([utterance("1", "?!")], Scoring(), "m.jsonl")
    with pytest.raises(ValueError, match="two or more speakers to resample, got {'s'}"):
        check(SET[1:2], Scoring(unit="speaker"), "m.jsonl")


def test_buckets_take_every_length_once():
    assert [length_bucket(n) for n in (0, 1, 5, 6, 10, 11, 20, 21, 40, 41, 999)] == [
        *("0", "1-5", "1-5", "6-10", "6-10", "11-20"),
        *("11-20", "21-40", "21-40", "41+", "41+"),
    ]
    assert [low for low, _ in LENGTHS] == [
        0,
        *(high + 1 for _, high in LENGTHS if high is not None),
    ]


def test_saved_transcripts_are_found_by_id_and_reference(tmp_path):
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(score([heard(A), heard(B, "b.tflite")], SET, QUICK)))
    again = read_heard(str(path), SET[::-1])
    assert [list(one.texts) for one in again] == [A[::-1], B[::-1]]
    assert again[1].path == "b.tflite" and again[1].saved_in == str(path)
    assert again[0].processing_seconds == [0.1] * 4
    with pytest.raises(ValueError, match="expected utterance '1' with the reference 'one'"):
        read_heard(str(path), [utterance("1", "one")])
    for content in ("no json", "[]", '{"files": [{}]}'):
        path.write_text(content)
        with pytest.raises(ValueError, match="saved.json: expected a result of"):
            read_heard(str(path), SET)
