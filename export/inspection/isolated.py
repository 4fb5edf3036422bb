"""Work on bytes that nobody vouches for, in a process of its own with limits.

A damaged file can make native code crash and make any reader run for hours or allocate without
end. A worker module is started as `python -m <module>`, gets the bytes on its standard input and
answers with JSON lines; whatever happens to it, the caller gets the lines written so far and
what ended it.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_MEMORY = Path("/proc/self/statm")  # sizes in pages; the first is the address space
_MAX_OUTPUT = 1 << 30  # bytes of answers


class IsolationError(OSError):
    """The process could not be started at all."""


@dataclass(frozen=True)
class Limits:
    """What a worker may use."""

    seconds: int  # of processor time; three times as much may pass on the clock
    memory_bytes: int  # on top of what the process has when it is ready to work

    @property
    def wall_seconds(self) -> int:
        """Time on the clock, generous for a busy machine."""
        return 3 * self.seconds


def limits_for(file_bytes: int) -> Limits:
    """Limits that reading a sound file of that size and loading it natively stay far below."""
    return Limits(seconds=20 + file_bytes // 10_000_000, memory_bytes=(1 << 30) + 8 * file_bytes)


@dataclass(frozen=True)
class Answer:
    """What a worker wrote, and how it ended."""

    lines: tuple[Any, ...]  # one JSON document each
    problem: str | None  # None: it ended by itself, without an error


def _problem(returncode: int) -> str | None:
    if returncode == 0:
        return None
    if returncode > 0:
        return f"the process ended with exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return {
        "SIGXCPU": "it takes too long",
        "SIGXFSZ": "it writes without end",
        "SIGKILL": "it takes too long or too much memory",
    }.get(name, f"the process crashed ({name})")


def run_isolated(module: str, content: bytes, limits: Limits) -> Answer:
    """Runs `python -m module` on bytes; the module's main calls `begin` and `Worker.write`.

    Args:
      module: dotted name.
      content: given to the worker on its standard input.
      limits: of time and memory.

    Raises:
      IsolationError: the worker did not come as far as `begin`.
    """
    command = [sys.executable, "-m", module, str(limits.seconds), str(limits.memory_bytes)]
    # Threads of OpenBLAS take address space, which the limit counts, and have nothing to do.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as notes:
        try:
            code = subprocess.run(
                command,
                input=content,
                stdout=output,
                stderr=notes,
                timeout=limits.wall_seconds,
                env=environment,
            ).returncode
            problem = _problem(code)
        except subprocess.TimeoutExpired:
            problem = "it takes too long"
        output.seek(0)
        lines = _whole_lines(output)
        if not lines or lines[0] != "ready":
            notes.seek(0)
            said = notes.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
            why = said[-1] if said else problem or "no message"
            raise IsolationError(f"a process for reading unverified files did not start: {why}")
        return Answer(tuple(lines[1:]), problem)


def _whole_lines(output: BinaryIO) -> list[Any]:
    lines = []
    for line in output:
        if line.endswith(b"\n"):  # the last one may be cut off
            try:
                lines.append(json.loads(line))
            except (ValueError, RecursionError):
                break
    return lines


class Worker:
    """The worker's side: the bytes to work on, and where answers go."""

    def __init__(self, content: bytes, output: BinaryIO):
        """See `begin`."""
        self.content = content
        self._output = output

    def write(self, line: Any) -> None:
        """Writes one JSON document; it is safe from whatever happens afterwards."""
        self._output.write(json.dumps(line).encode() + b"\n")
        self._output.flush()


def begin(arguments: list[str]) -> Worker:
    """Sets the limits given by `run_isolated` and reads the bytes.

    To be called when everything is imported: the memory in use then does not count.

    Args:
      arguments: of the command line.
    """
    seconds, memory = map(int, arguments)
    content = sys.stdin.buffer.read()
    output = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # native code may print there
    worker = Worker(content, output)
    worker.write("ready")
    _limit(seconds, memory)
    return worker


def _limit(seconds: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the clock alone
        return
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: _MAX_OUTPUT,
    }
    if _MEMORY.exists():
        pages = int(_MEMORY.read_text().split()[0])
        wanted[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # The hard limit stays: at the soft one SIGXCPU tells time from other deaths.
        resource.setrlimit(kind, (value, hard))
