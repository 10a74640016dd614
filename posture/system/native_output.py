"""What native libraries write to standard error past Python: held back from the terminal, and there to be read."""

from __future__ import annotations

import os
import sys

_reader = -1
"""The pipe's end that holds it; below 0: nothing is held back."""


def hold_back() -> None:
    """Lead file descriptor 2 into a pipe, and Python's standard error to where that led. Logging comes after it."""
    global _reader
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    _reader, writer = os.pipe()
    for end in (_reader, writer):
        # a full pipe loses what comes, and never holds up who writes
        os.set_blocking(end, False)
    os.dup2(writer, 2)
    os.close(writer)


def taken() -> list[str]:
    """Return the lines that were written since the last call; none where nothing is held back."""
    written = b""
    while _reader >= 0:
        try:
            part = os.read(_reader, 65_536)
        except BlockingIOError:
            break
        written += part
    return written.decode(errors="replace").splitlines()
