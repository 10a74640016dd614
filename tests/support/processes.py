"""What /proc says of a process: what it has used so far, whether it runs, its children."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    return sum(_ticks(pid)[:2]) / os.sysconf("SC_CLK_TCK")


def family_cpu_seconds(pid: int) -> float:
    """The same of a process and its children, those that have ended among them."""
    total = sum(_ticks(pid))
    for child in children_of(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += sum(_ticks(child))
    return total / os.sysconf("SC_CLK_TCK")


def peak_kib(pid: int) -> int:
    """The most memory that a process has had resident, in KiB."""
    return _kib(pid, "status", "VmHWM")


def resident_kib(pid: int) -> int:
    """The memory that a process has resident (RSS), in KiB."""
    return _kib(pid, "status", "VmRSS")


def pss_kib(pid: int) -> int:
    """The same with what several processes share divided among them (PSS), in KiB."""
    return _kib(pid, "smaps_rollup", "Pss")


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, from whichever thread, and that still run."""
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children += [int(child) for child in (task / "children").read_text().split()]
    return children


def is_running(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _ticks(pid: int) -> list[int]:
    """User and system time, and those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


def _kib(pid: int, file: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    assert found is not None, f"/proc/{pid}/{file} has no {field}: the process has ended"
    return int(found[1])
