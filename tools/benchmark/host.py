"""Measures model files on this machine, side by side.

Every round runs every file on the same audio, one after another, so that a machine that warms up
or is disturbed disturbs all of them; the figures are medians over rounds.
"""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_qat.export.inspect import inspect_file
from asr_qat.runtime.model_file import load_recognizer_file
from asr_qat.runtime.recognizer import Recognizer

from .peak_memory import MemoryUse, measure_memory
from .signal import noise


@dataclass(frozen=True)
class Speed:
    """Streaming speed of one file on a number of threads."""

    threads: int
    chunk_p50_ms: float  # one chunk through frontend, encoder and search
    chunk_p95_ms: float
    real_time_factor: float  # processing time / audio time; median over rounds
    rounds: int
    chunks: int  # in a round


@dataclass(frozen=True)
class FileResult:
    """Everything measured about one file."""

    path: Path
    file_bytes: int
    encoder_weight_bytes: int | None
    bits_per_parameter: float
    chunk_ms: float  # audio in a chunk
    speeds: tuple[Speed, ...]  # one for each number of threads
    memory: MemoryUse | None
    delegated: dict[str, float | None]  # signature -> share of operators run by XNNPACK


@dataclass(frozen=True)
class HostReport:
    """A comparison of files."""

    machine: str
    audio_seconds: float
    results: tuple[FileResult, ...]


def machine_name() -> str:
    """Processor, as well as the system can say."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return f"{line.split(':', 1)[1].strip()} ({platform.machine()})"
    except OSError:
        pass
    return f"{platform.processor() or 'unknown processor'} ({platform.machine()})"


def time_chunks(recognizer: Recognizer, samples: np.ndarray) -> np.ndarray:
    """Recognises `samples` chunk by chunk; returns the seconds of each whole one."""
    size = recognizer.chunk_samples
    whole = samples.size - samples.size % size
    stream, times = recognizer.stream(), []
    for start in range(0, whole, size):
        block = samples[start : start + size]
        began = time.perf_counter()
        stream.accept(block)
        times.append(time.perf_counter() - began)
    return np.asarray(times)


def measure_speed(
    paths: Sequence[Path],
    samples: np.ndarray | None = None,
    seconds: float = 10.0,
    threads: int = 1,
    rounds: int = 7,
    progress: Callable[[], object] = lambda: None,
) -> list[Speed]:
    """Measures files side by side on a number of threads.

    Args:
      paths: model files.
      samples: float32 [n] at the models' rate; None for synthetic noise.
      seconds: of noise.
      threads: of each interpreter.
      rounds: passes over the audio, after one that does not count.
      progress: called after every pass of every file.

    Returns:
      One `Speed` for each path.

    Raises:
      ModelFileError: a file is unusable.
      ValueError: the audio is shorter than a chunk.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be >= 1, received {rounds}")
    recognizers = [Recognizer(path, num_threads=threads) for path in paths]
    audio = [noise(seconds, r.sample_rate) if samples is None else samples for r in recognizers]
    for path, recognizer, track in zip(paths, recognizers, audio, strict=True):
        if track.size < recognizer.chunk_samples:
            raise ValueError(
                f"{path}: the audio has {track.size} samples, expected at least one chunk of "
                f"{recognizer.chunk_samples}"
            )
    times: list[list[np.ndarray]] = [[] for _ in recognizers]
    for index in range(rounds + 1):
        for kept, recognizer, track in zip(times, recognizers, audio, strict=True):
            measured = time_chunks(recognizer, track)
            if index:  # the first pass warms up
                kept.append(measured)
            progress()
    speeds = []
    for kept, recognizer in zip(times, recognizers, strict=True):
        chunk_seconds = recognizer.chunk_samples / recognizer.sample_rate
        milliseconds = 1000 * np.concatenate(kept)
        speeds.append(
            Speed(
                threads=threads,
                chunk_p50_ms=float(np.percentile(milliseconds, 50)),
                chunk_p95_ms=float(np.percentile(milliseconds, 95)),
                real_time_factor=float(np.median([m.mean() for m in kept]) / chunk_seconds),
                rounds=rounds,
                chunks=len(kept[0]),
            )
        )
    return speeds


def benchmark_files(
    paths: Sequence[Path],
    samples: np.ndarray | None = None,
    seconds: float = 10.0,
    threads: Sequence[int] = (1, 2),
    rounds: int = 7,
    memory: bool = True,
    progress: Callable[[], object] = lambda: None,
) -> HostReport:
    """Measures speed, memory, size and delegation of files, side by side.

    Args:
      paths: model files.
      samples: float32 [n] at the models' rate; None for `seconds` of synthetic noise.
      seconds: of noise.
      threads: numbers of threads to measure.
      rounds: counted passes over the audio.
      memory: also measure peak memory, in a process for each file.
      progress: called len(paths) * len(threads) * (rounds + 1) times.

    Raises:
      ModelFileError: a file is unusable.
      ValueError: the audio is shorter than a chunk, or no paths, threads or rounds.
    """
    if not paths or not threads:
        raise ValueError("expected at least one file and one number of threads")
    files = [load_recognizer_file(path) for path in paths]
    reports = [inspect_file(path) for path in paths]
    speeds = [measure_speed(paths, samples, seconds, count, rounds, progress) for count in threads]
    results = []
    for index, (path, report) in enumerate(zip(paths, reports, strict=True)):
        metadata = files[index].metadata
        delegated = {
            part.name: None if part.delegation is None else part.delegation.share
            for part in report.parts
        }
        results.append(
            FileResult(
                path=path,
                file_bytes=report.file_bytes,
                encoder_weight_bytes=report.encoder_weight_bytes,
                bits_per_parameter=report.totals.bits_per_parameter,
                chunk_ms=1000 * metadata["chunk_samples"] / metadata["sample_rate"],
                speeds=tuple(by_threads[index] for by_threads in speeds),
                memory=measure_memory(path) if memory else None,
                delegated=delegated,
            )
        )
    measured = seconds if samples is None else samples.size / files[0].metadata["sample_rate"]
    return HostReport(machine=machine_name(), audio_seconds=measured, results=tuple(results))
