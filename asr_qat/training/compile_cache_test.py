import os
import subprocess
import sys

import pytest

from asr_qat.training.compile_cache import default_folder, use_compile_cache

CODE = """
import sys
from asr_qat.training.compile_cache import use_compile_cache
folder = use_compile_cache(sys.argv[1])
from asr_qat.backend import compiled
from keras import ops
def slow_to_compile(x):
    for i in range(300):
        x = ops.sort(ops.sin(x) + i)
    return x
compiled(slow_to_compile)(ops.ones(9))
print(len(list(folder.iterdir())))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_what_is_compiled_is_kept(tmp_path, backend):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0


def test_other_flags_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("TF_XLA_FLAGS", "--a=1 --tf_xla_persistent_cache_directory=/old --b")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    folder = use_compile_cache(tmp_path)
    assert folder.parent == tmp_path and folder.name.startswith("tensorflow-")
    flags = os.environ["TF_XLA_FLAGS"].split()
    assert {"--a=1", "--b", f"--tf_xla_persistent_cache_directory={folder}"} == set(flags)
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "1"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "asr_qat"
