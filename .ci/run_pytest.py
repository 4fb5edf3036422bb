"""Runs a test file under Bazel; fails if a module of asr_qat came from elsewhere than Bazel."""

import os
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    os.environ.setdefault("TMPDIR", os.environ.get("TEST_TMPDIR", "/tmp"))
    code = pytest.main(["--import-mode=importlib", "-p", "no:cacheprovider", "-q", *sys.argv[1:]])
    here = Path.cwd()
    strangers = sorted(
        name
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "asr_qat"
        and not Path(getattr(module, "__file__", None) or here).is_relative_to(here)
    )
    if strangers:
        sys.exit(f"not from Bazel's runfiles at {here}: {', '.join(strangers)}")
    sys.exit(code)
