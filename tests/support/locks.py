"""Locks among test runs: of several that need the same thing, one makes it."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out. The kernel frees the lock when a process ends, however that ends.

    Args:
        path: a file for the lock alone; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
