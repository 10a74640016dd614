"""The C library's heaps: how many there are, and what of them goes back to the operating system.

Both are matters of glibc; with another C library nothing happens.
"""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8


def bound_heaps(count: int) -> None:
    """Let all threads share so many heaps: glibc keeps freed memory in each of them apart."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_ARENA_MAX, count)


def give_back_freed_memory() -> None:
    """Return freed memory to the operating system. It takes a few milliseconds."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
