"""Compiled training steps that the next process finds on the disk."""

import hashlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path


def default_folder() -> Path:
    """In the user's cache, ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asr_qat"


def use_compile_cache(folder: str | os.PathLike[str]) -> Path:
    """Lets XLA keep what it compiles, on TensorFlow and on JAX; call it before either's import.

    Entries hold native code, and neither backend asks whether this machine runs it, so they are in
    a folder for the backend's version and the processor. They may be deleted at any time.

    Args:
        folder: of all caches; made if missing.

    Returns:
        The folder of this backend and machine.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    own = Path(folder).expanduser().absolute() / f"{backend}-{_version(backend)}-{_processor()}"
    own.mkdir(parents=True, exist_ok=True)
    if backend == "jax":
        import jax

        jax.config.update("jax_compilation_cache_dir", str(own))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    elif backend == "tensorflow":
        flags = os.environ.get("TF_XLA_FLAGS", "")
        flags = re.sub(r"--tf_xla_persistent_cache_directory=\S*", "", flags).strip()
        directory = f"--tf_xla_persistent_cache_directory={own}"
        os.environ["TF_XLA_FLAGS"] = f"{flags} {directory}".strip()
        # TensorFlow tries each entry as text first and logs that as an error.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return own


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _processor() -> str:
    """What sets apart processors that run different instructions."""
    features = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        features = next((x for x in lines if x.startswith(("flags", "Features"))), features)
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"
