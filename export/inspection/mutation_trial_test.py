"""Damaged files: none crashes or hangs a reader, or passes for the file that it was."""

import os
from collections import Counter

from asr_qat.export.inspection import mutation_trial
from asr_qat.export.inspection.mutation import KINDS, mutate
from asr_qat.export.inspection.mutation_trial import (
    CRASH,
    HANG,
    REFUSED,
    UNCHANGED,
    UNVERIFIED,
    WRONG_ERROR,
    Result,
    Source,
    run_trial,
)
from asr_qat.export.testing import tiny_float_model, write_tiny_recognizer


def test_mutants_are_reproducible_and_damaged():
    content = bytes(range(256)) * 8
    for index in range(5 * len(KINDS)):
        kind, mutant = mutate(content, index, seed=3)
        assert (kind, mutant) == mutate(content, index, seed=3)
        assert kind == "swapped sections" or mutant != content
    assert mutate(content, 0, seed=4) != mutate(content, 0, seed=3)


def test_swapped_sections_are_all_there():
    content = bytes(range(256))
    index = list(KINDS).index("swapped sections")
    kind, mutant = mutate(content, index)
    assert kind == "swapped sections" and mutant != content and sorted(mutant) == sorted(content)


def test_every_mutant_is_refused_or_described_as_unverified(tmp_path):
    ours = write_tiny_recognizer(tmp_path / "m.tflite").read_bytes()
    sources = [Source("exported", ours, 300), Source("foreign", tiny_float_model()[0], 33)]
    seen: list[Result] = []
    results = run_trial(sources, seed=1, workers=1, progress=seen.append)
    assert len(results) == 333 and seen == results
    found = Counter((r.source, r.outcome) for r in results if r.outcome != UNCHANGED)
    assert set(found) <= {
        ("exported", REFUSED),
        ("exported", UNVERIFIED),
        ("foreign", REFUSED),
        ("foreign", UNVERIFIED),
    }, [r for r in results if r.outcome not in (REFUSED, UNVERIFIED, UNCHANGED)]
    assert found["exported", REFUSED] > 290 and found["foreign", REFUSED]


def work_badly(connection, sources, seed, folder):
    """Stands in for a worker whose readers are not safe."""
    while True:
        number, index = connection.recv()
        if index == 1:
            os._exit(7)
        if index == 2:
            while True:
                pass
        kind, _ = mutate(sources[number].content, index, seed)
        note = ValueError.__name__
        connection.send(Result("x", index, kind, WRONG_ERROR, 0.0, note))


def test_crashes_and_hangs_are_counted(monkeypatch):
    monkeypatch.setattr(mutation_trial, "_work", work_badly)
    monkeypatch.setattr(mutation_trial, "_START", "fork")  # this file has no name to import
    results = run_trial([Source("x", bytes(range(100)), 4)], workers=1, timeout=2)
    assert [r.outcome for r in results] == [WRONG_ERROR, CRASH, HANG, WRONG_ERROR]
    assert "exit code 7" in results[1].note
