"""What the C library keeps of freed memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its heaps are glibc's")


def run(code: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return [int(number) for number in done.stdout.split()]


FREED = """
from pathlib import Path
from posture.system.memory import give_back_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4
blocks = [bytes([number % 256]) * 2000 for number in range(40_000)]
last = blocks[-1]
del blocks
before = resident()
give_back_freed_memory()
print(before, resident())
"""


def test_memory_freed_below_what_is_still_in_use_goes_back_to_the_system() -> None:
    before, after = run(FREED)
    assert before - after > 60_000


HEAPS = """
import ctypes, tempfile, threading
from posture.system.memory import bound_heaps
bound_heaps(2)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(8)
def allocate():
    together.wait()
    libc.malloc(ctypes.c_size_t(5000))
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(file.read().count(b"<heap nr="))
"""


def test_eight_threads_share_two_heaps() -> None:
    (heaps,) = run(HEAPS)
    assert heaps <= 2


KEPT = """
import resource
import numpy as np
from posture.system.memory import keep_freed_memory
keep_freed_memory({kept} << 20)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        pictures = [np.full(1_000_000, 1, np.uint8) for _ in range(3)]
        del pictures
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def test_the_pages_of_one_picture_serve_the_next() -> None:
    (kept,), (given_back,) = run(KEPT.format(kept=8)), run(KEPT.format(kept=0))
    assert 10 * kept < given_back
