"""The C library's heaps: how many there are, and what of them goes back to the operating system.

Both are matters of glibc; with another C library nothing happens.
"""

from __future__ import annotations

import ctypes

M_ARENA_MAX, M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -8, -1, -3
LARGEST = 32 << 20
"""Bytes of what a heap may hold at most; glibc accepts no more."""


def bound_heaps(count: int) -> None:
    """Let all threads share so many heaps: glibc keeps freed memory in each of them apart."""
    _set(M_ARENA_MAX, count)


def keep_freed_memory(bytes_kept: int) -> None:
    """Let each heap keep so much of what was freed at its end for what is needed next.

    glibc would give a large picture's pages back at once, and the system clear new ones for the next picture.
    """
    _set(M_TRIM_THRESHOLD, bytes_kept)
    _set(M_MMAP_THRESHOLD, LARGEST)


def _set(parameter: int, value: int) -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Return freed memory to the operating system. It takes a few milliseconds."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
