"""Peak memory of recognising with one file, measured in a process of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class MemoryUse:
    """Resident memory of a process that loads one model and recognises."""

    peak_bytes: int  # the whole process: Python, NumPy, LiteRT, the model, its working memory
    model_bytes: int  # of that, what came on top after the imports


def resident_peak() -> int:
    """Highest resident size of this process so far, in bytes."""
    if STATUS.exists():
        # Unlike ru_maxrss, VmHWM starts afresh at exec and so knows nothing of the parent.
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_memory(path: Path, threads: int = 1, seconds: float = 4.0) -> MemoryUse:
    """Recognises `seconds` of noise with a model in a new process.

    Raises:
      ValueError: the process failed; the message ends with its last line.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(path), str(threads), str(seconds)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ValueError(f"{path}: measuring its memory failed: {last}")
    return MemoryUse(**json.loads(done.stdout))


def main(path: str, threads: str, seconds: str) -> None:
    """Body of the measured process: prints a `MemoryUse` as JSON."""
    from asr_qat.runtime.recognizer import Recognizer
    from asr_qat.tools.benchmark.signal import noise

    before = resident_peak()
    recognizer = Recognizer(path, num_threads=int(threads))
    recognizer.transcribe(noise(float(seconds), recognizer.sample_rate))
    peak = resident_peak()
    print(json.dumps({"peak_bytes": peak, "model_bytes": peak - before}))


if __name__ == "__main__":
    main(*sys.argv[1:])
