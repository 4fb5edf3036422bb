"""Keeps the interpreter's start-up notes off a command's stderr."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def without_native_notes() -> Iterator[TextIO]:
    """Drops lines that native code writes to stderr and that start with "INFO:".

    LiteRT announces each delegate there and has no switch for it. Other lines are passed on when
    the block ends. For command-line tools: it redirects the process's file descriptor 2.

    Yields:
      The real stderr, for what should appear at once, such as a progress bar.
    """
    sys.stderr.flush()
    with (
        tempfile.TemporaryFile() as noted,
        os.fdopen(os.dup(2), "w", buffering=1) as real,
    ):
        os.dup2(noted.fileno(), 2)
        try:
            yield real
        finally:
            sys.stderr.flush()
            real.flush()
            os.dup2(real.fileno(), 2)
            noted.seek(0)
            for line in noted:
                if not line.startswith(b"INFO:"):
                    os.write(2, line)
