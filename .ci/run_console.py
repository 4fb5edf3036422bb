"""The `asr-qat` command as a Bazel binary: `bazel run //tools:asr-qat -- --help`."""

from asr_qat.tools.main import console

if __name__ == "__main__":
    console()
