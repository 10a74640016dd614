"""What a process has used so far, from /proc: the benches' common measure."""

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
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += sum(_ticks(int(child)))
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


def _ticks(pid: int) -> list[int]:
    """User and system time, and those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


def _kib(pid: int, file: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    assert found is not None, f"/proc/{pid}/{file} has no {field}: the process has ended"
    return int(found[1])
