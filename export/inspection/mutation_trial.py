"""Reads damaged files with everything that reads model files, and counts what happens.

Each mutant is read in a worker process, so that a crash or a hang is counted and ends nothing
but that worker.
"""

import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from asr_qat.runtime.model_file import ModelFileError, load_model_file
from asr_qat.runtime.recognizer import Recognizer

from ..inspect import inspect_file
from .mutation import mutate

# What a mutant may end as.
UNCHANGED = "unchanged"  # no damage was done; does not count
REFUSED = "refused"  # ModelFileError from everybody
UNVERIFIED = "unverified"  # the runtime refuses it, inspect describes it as unverified
ACCEPTED = "accepted"  # somebody took it for a file of ours
WRONG_ERROR = "wrong error"  # an exception that no caller expects
CRASH = "crash"
HANG = "hang"
OUTCOMES = (REFUSED, UNVERIFIED, ACCEPTED, WRONG_ERROR, CRASH, HANG)
FAILURES = (ACCEPTED, WRONG_ERROR, CRASH, HANG)

_START = "spawn"  # how workers start: afresh, without this process's threads


@dataclass(frozen=True)
class Source:
    """A sound file to damage."""

    name: str
    content: bytes
    mutants: int


@dataclass(frozen=True)
class Result:
    """What became of one mutant."""

    source: str
    index: int  # with the seed, makes the mutant again
    kind: str
    outcome: str
    seconds: float
    note: str = ""  # the error, or what went wrong while it was described


def judge(path: Path) -> tuple[str, str]:
    """Gives a damaged file to all readers.

    Returns:
      The outcome, and a note.
    """
    for reader in (load_model_file, Recognizer):
        try:
            reader(path)
        except ModelFileError:
            pass
        except Exception as error:
            return WRONG_ERROR, f"{reader.__name__}: {error!r}"
        else:
            return ACCEPTED, reader.__name__
    try:
        report = inspect_file(path)
    except ModelFileError as error:
        return REFUSED, str(error).removeprefix(f"{path}: ")
    except Exception as error:
        return WRONG_ERROR, f"inspect_file: {error!r}"
    unknown = sorted({p.delegation_unknown for p in report.parts if p.delegation is None})
    return (ACCEPTED if report.verified else UNVERIFIED), "; ".join(unknown)


def _work(connection: Connection, sources: Sequence[Source], seed: int, folder: str) -> None:
    """Body of a worker: judges what it is sent until the connection closes."""
    path = Path(folder) / f"{multiprocessing.current_process().pid}.tflite"
    with contextlib.suppress(EOFError):
        while True:
            number, index = connection.recv()
            kind, content = mutate(sources[number].content, index, seed)
            start = time.perf_counter()
            if content == sources[number].content:
                outcome, note = UNCHANGED, ""
            else:
                path.write_bytes(content)
                outcome, note = judge(path)
            seconds = time.perf_counter() - start
            connection.send(Result(sources[number].name, index, kind, outcome, seconds, note))


class _Worker:
    """A worker process and the mutant that it has."""

    def __init__(self, *arguments: Any):
        context: Any = multiprocessing.get_context(_START)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.job: tuple[int, int] | None = None
        self.since = 0.0

    def give(self, job: tuple[int, int]) -> None:
        self.job, self.since = job, time.perf_counter()
        self.connection.send(job)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_trial(
    sources: Sequence[Source],
    seed: int = 0,
    workers: int = 2,
    timeout: float = 120.0,
    progress: Callable[[Result], object] = lambda result: None,
) -> list[Result]:
    """Makes and judges the mutants of several files.

    Args:
      sources: what to damage, and how often.
      seed: of the mutants.
      workers: processes.
      timeout: seconds after which a mutant counts as a hang.
      progress: called with every result.

    Returns:
      A result for every mutant, as they come.
    """
    jobs = iter([(n, i) for n, source in enumerate(sources) for i in range(source.mutants)])
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def start() -> _Worker:
            worker = _Worker(sources, seed, folder)
            stack.callback(worker.end)
            return worker

        busy = [worker for worker in (start() for _ in range(workers)) if _next(worker, jobs)]
        while busy:
            wait([worker.connection for worker in busy], timeout=1.0)
            for worker in list(busy):
                result = _result(worker, sources, seed, timeout)
                if result is None:
                    continue
                results.append(result)
                progress(result)
                busy.remove(worker)
                if result.outcome in (CRASH, HANG):
                    worker.process.kill()
                    worker = start()
                if _next(worker, jobs):
                    busy.append(worker)
    return results


def _next(worker: _Worker, jobs: Iterator[tuple[int, int]]) -> bool:
    job = next(jobs, None)
    if job is not None:
        worker.give(job)
    return job is not None


def _result(worker: _Worker, sources: Sequence[Source], seed: int, timeout: float) -> Result | None:
    """The result of a worker's mutant, or None while there is none."""
    seconds = time.perf_counter() - worker.since
    outcome, note = HANG, f"no answer in {timeout:g} s"
    if worker.connection.poll():
        try:
            return worker.connection.recv()
        except EOFError:
            worker.process.join()
            outcome, note = CRASH, f"exit code {worker.process.exitcode}"
    elif seconds < timeout:
        return None
    number, index = worker.job or (0, 0)
    kind, _ = mutate(sources[number].content, index, seed)
    return Result(sources[number].name, index, kind, outcome, seconds, note)
