"""Tests that a worker's crash, hang or hunger is an answer, and costs nothing said before."""

import os
import sys
import time

import pytest

from asr_qat.export.inspection.isolated import IsolationError, Limits, limits_for, run_isolated

LIMITS = Limits(seconds=2, memory_bytes=1 << 28)
BODY = """\
import os, sys, time
from asr_qat.export.inspection.isolated import begin

worker = begin(sys.argv[1:])
worker.write({{"length": len(worker.content)}})
{}
worker.write("end")
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    path = os.pathsep.join(filter(None, [str(tmp_path), *sys.path]))
    monkeypatch.setenv("PYTHONPATH", path)

    def run(body, limits=LIMITS, template=BODY):
        (tmp_path / "some_worker.py").write_text(template.format(body))
        return run_isolated("some_worker", bytes(100_000), limits)

    return run


def test_answers(run):
    answer = run("print('native noise'); print('more', file=sys.stderr)")
    assert answer.lines == ({"length": 100_000}, "end") and answer.problem is None


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("os.kill(os.getpid(), 11)", "the process crashed (SIGSEGV)"),
        ("os.abort()", "the process crashed (SIGABRT)"),
        ("sys.exit(3)", "the process ended with exit code 3"),
        ("raise ValueError", "the process ended with exit code 1"),
        ("while True: pass", "it takes too long"),
        ("os._exit(0)", None),
        ("bytearray(1 << 29)", "the process ended with exit code 1"),  # MemoryError
    ],
)
def test_endings(run, body, problem):
    answer = run(body)
    assert answer.lines == ({"length": 100_000},) and answer.problem == problem


def test_sleeping_is_no_way_out(run):
    start = time.perf_counter()
    answer = run("time.sleep(60)", Limits(seconds=1, memory_bytes=1 << 28))
    assert answer.problem == "it takes too long" and time.perf_counter() - start < 20


def test_a_cut_off_line_does_not_count(run):
    answer = run("worker._output.write(b'[1, 2'); worker._output.flush(); os._exit(1)")
    assert answer.lines == ({"length": 100_000},)


def test_a_worker_that_does_not_start_is_no_answer(run):
    with pytest.raises(IsolationError, match="did not start: ImportError: broken"):
        run("", template="raise ImportError('broken')")


def test_limits_grow_with_the_file():
    small, large = limits_for(1000), limits_for(10**9)
    assert small.seconds >= 10 and large.seconds > small.seconds
    assert large.memory_bytes > 4 * 10**9 and small.memory_bytes < 2 << 30
