"""Tests of the host benchmark on tiny models."""

import json
import subprocess
import sys

import numpy as np
import pytest

from asr_qat.export.testing import TinySizes, write_tiny_recognizer
from asr_qat.tools.benchmark.host import benchmark_files, measure_speed, time_chunks
from asr_qat.tools.benchmark.peak_memory import measure_memory
from asr_qat.tools.benchmark.signal import noise


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    return [
        write_tiny_recognizer(folder / f"bits{bits}.tflite", TinySizes(hidden=64), bits)
        for bits in (32, 4)
    ]


def test_measures_every_file_on_every_number_of_threads(paths):
    passes = []
    report = benchmark_files(
        paths, seconds=0.5, threads=(1, 2), rounds=2, progress=lambda: passes.append(1)
    )
    assert len(passes) == 2 * 2 * 3 and report.machine and report.audio_seconds == 0.5
    wide, narrow = report.results
    assert wide.file_bytes > narrow.file_bytes == paths[1].stat().st_size
    assert wide.encoder_weight_bytes and narrow.encoder_weight_bytes
    assert wide.encoder_weight_bytes > 3 * narrow.encoder_weight_bytes
    for result in report.results:
        assert [speed.threads for speed in result.speeds] == [1, 2] and result.chunk_ms == 80
        for speed in result.speeds:
            assert 0 < speed.chunk_p50_ms <= speed.chunk_p95_ms < 80
            assert 0 < speed.real_time_factor < 1 and speed.chunks == 6
        assert result.memory is not None
        assert 20e6 < result.memory.peak_bytes < 400e6
        assert 0 < result.memory.model_bytes < result.memory.peak_bytes
        assert result.delegated["encoder"] == 1.0 and result.delegated["prediction"] == 0.8


def test_memory_of_the_child_does_not_know_the_parent(paths):
    ballast = np.ones(100_000_000)  # 800 MB resident here
    assert measure_memory(paths[0], seconds=0.2).peak_bytes < 400e6
    assert ballast[-1] == 1


def test_noise_is_audio():
    samples = noise(2.0, 16000)
    assert samples.dtype == np.float32 and samples.shape == (32000,)
    assert 0.01 < samples.std() < 0.2 and np.abs(samples).max() <= 1
    np.testing.assert_array_equal(samples, noise(2.0, 16000))


def test_errors(paths, tmp_path):
    with pytest.raises(ValueError, match="at least one chunk of 1280"):
        measure_speed(paths, np.zeros(1279, np.float32))
    with pytest.raises(ValueError, match="rounds must be >= 1, received 0"):
        measure_speed(paths, rounds=0)
    with pytest.raises(ValueError, match="absent.tflite: measuring its memory failed"):
        measure_memory(tmp_path / "absent.tflite")


def test_time_chunks_counts_whole_chunks(paths):
    from asr_qat.runtime.recognizer import Recognizer

    assert time_chunks(Recognizer(paths[0]), np.zeros(3000, np.float32)).shape == (2,)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "asr_qat.tools.benchmark", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_command_line(paths):
    done = command(*paths, "--seconds", "0.3", "--rounds", "1", "--threads", "1")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and lines[2].startswith("bits32.tflite")
    done = command(paths[1], "--seconds", "0.3", "--rounds", "1", "--json")
    document = json.loads(done.stdout)
    assert document["results"][0]["speeds"][1]["threads"] == 2


def test_command_line_errors(paths, tmp_path):
    done = command(tmp_path / "absent.tflite")
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "asr-qat benchmark: error:" in done.stderr and "cannot be read" in done.stderr
    done = command(paths[0], "--threads", "0")
    assert done.returncode == 2 and "expected numbers >= 1" in done.stderr
