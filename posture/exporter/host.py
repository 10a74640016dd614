"""Processors and memory, from /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from posture.exporter.source import UnreadableError

IDLE = (3, 4)
"""Where idle and iowait stand in the first line of /proc/stat (proc_stat(5)): a processor that waits is free."""
GUEST = slice(8, None)
"""guest and guest_nice are in user and nice already."""


@dataclass(frozen=True)
class CpuTimes:
    """What all processors have done since the machine's start, in ticks."""

    busy: int
    total: int

    def busy_since(self, earlier: CpuTimes) -> float | None:
        """Return the percentage of the time since then that processors were busy; None if no time has passed.

        The kernel's idle counters may go back a little; the result stays within 0 and 100.
        """
        total = self.total - earlier.total
        return None if total <= 0 else min(100.0, max(0.0, (self.busy - earlier.busy) / total * 100))


def cpu_times(proc: Path) -> CpuTimes:
    """Return the times of all processors together.

    Args:
        proc: where procfs is mounted.

    Raises:
        UnreadableError: /proc/stat can't be read.
    """
    path = proc / "stat"
    line = _first_line(path, "cpu ")
    try:
        ticks = [int(word) for word in line.split()[1:]]
        idle = sum(ticks[place] for place in IDLE)
    except (ValueError, IndexError):
        raise UnreadableError(f"{path}: {line[:60]!r} are no times of processors") from None
    total = sum(ticks) - sum(ticks[GUEST])
    return CpuTimes(total - idle, total)


def memory_available(proc: Path) -> int:
    """Return how many bytes programs can have without swapping.

    Args:
        proc: where procfs is mounted.

    Raises:
        UnreadableError: /proc/meminfo can't be read.
    """
    path = proc / "meminfo"
    line = _first_line(path, "MemAvailable:")
    try:
        return int(line.split()[1]) * 1024
    except (ValueError, IndexError):
        raise UnreadableError(f"{path}: {line[:60]!r} is no amount") from None


def memory_pressure(proc: Path) -> float:
    """Return the percentage of the last 10 s in which some task waited for memory.

    Args:
        proc: where procfs is mounted.

    Raises:
        UnreadableError: the kernel has no /proc/pressure, as that of a Jetson Nano.
    """
    path = proc / "pressure" / "memory"
    line = _first_line(path, "some ")
    try:
        return float(dict(word.split("=") for word in line.split()[1:])["avg10"])
    except (ValueError, KeyError):
        raise UnreadableError(f"{path}: {line[:60]!r} is no pressure") from None


def _first_line(path: Path, start: str) -> str:
    try:
        with path.open(encoding="ascii") as file:
            for line in file:
                if line.startswith(start):
                    return line
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    raise UnreadableError(f"{path}: no line begins with {start.strip()!r}")
