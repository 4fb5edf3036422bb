"""Keeps the start-up notes of LiteRT and TensorFlow off a command's stderr."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO

# LiteRT announces each delegate; TensorFlow says at its import that there is no GPU.
_NOTE = re.compile(rb"INFO:|WARNING: All log messages before absl|[IW]0000 |E0000 .*cuInit")


@contextlib.contextmanager
def without_native_notes() -> Iterator[TextIO]:
    """Drops notes that native code writes to stderr and has no switch for.

    Other lines are passed on when the block ends. For command-line tools: it redirects the
    process's file descriptor 2.

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
                if not _NOTE.match(line):
                    os.write(2, line)
