"""The figures of the last seconds: read often, shown as their mean, so that a scrape sees what was between."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

from posture.exporter import host
from posture.exporter.host import CpuTimes
from posture.exporter.source import GpuSource, UnreadableError

log = logging.getLogger(__name__)
T = TypeVar("T")

EACH_S = 0.2
WINDOW_S = 5.0
RETRY_S = 5.0
"""What could not be read is looked for again so often."""


@dataclass(frozen=True)
class Figures:
    """What is known now; what can't be read is None, never 0.

    Attributes:
        gpu_percent: mean of the window; of several GPUs, the busiest.
        cpu_percent: of all processors, over the window.
        memory_available: bytes.
        memory_pressure_percent: of the last 10 s, as the kernel has it.
        read_at: when something was last read, in seconds since the epoch.
        gpu_source: what the GPU's load is read from; empty if it can't be read.
    """

    gpu_percent: float | None
    cpu_percent: float | None
    memory_available: int | None
    memory_pressure_percent: float | None
    read_at: float | None
    gpu_source: str


class Sampler:
    """Reads a node's figures; ``sample`` is called about five times a second.

    Args:
        proc: where procfs is mounted.
        gpus: the sources of the GPU's load; the first that can be read counts.
        clock: seconds, monotonic.
    """

    def __init__(self, proc: Path, gpus: Sequence[GpuSource], clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = proc
        self._gpus = gpus
        self._clock = clock
        self._lock = Lock()
        self._gpu: GpuSource | None = None
        self._looked_s: float | None = None
        self._gpu_loads: deque[tuple[float, float]] = deque()
        self._cpu_times: deque[tuple[float, CpuTimes]] = deque()
        self._read_at: float | None = None
        self._problems: dict[str, str] = {}

    def sample(self) -> None:
        """Read once."""
        now_s = self._clock()
        load, times = self._gpu_load(now_s), self._times()
        with self._lock:
            if load is not None:
                self._gpu_loads.append((now_s, load))
            if times is not None:
                self._cpu_times.append((now_s, times))
            if load is not None or times is not None:
                self._read_at = time.time()
            self._forget(now_s)

    def figures(self) -> Figures:
        """Return what is known now; safe from any thread."""
        with self._lock:
            self._forget(self._clock())
            loads = [load for _, load in self._gpu_loads]
            times = [times for _, times in self._cpu_times]
            source = self._gpu.about if self._gpu is not None and loads else ""
            read_at = self._read_at
        return Figures(
            sum(loads) / len(loads) if loads else None,
            times[-1].busy_since(times[0]) if len(times) > 1 else None,
            self._tried("memory", host.memory_available),
            self._tried("memory pressure", host.memory_pressure),
            read_at,
            source,
        )

    @property
    def problems(self) -> dict[str, str]:
        """What can't be read now -> what was tried."""
        return {what: why for what, why in self._problems.items() if why}

    def _forget(self, now_s: float) -> None:
        """Drop what is older than the window; the caller holds the lock."""
        while self._gpu_loads and self._gpu_loads[0][0] < now_s - WINDOW_S:
            self._gpu_loads.popleft()
        # the last one from before the window is where the window begins
        while len(self._cpu_times) > 1 and self._cpu_times[1][0] <= now_s - WINDOW_S:
            self._cpu_times.popleft()
        if self._cpu_times and self._cpu_times[-1][0] < now_s - WINDOW_S:
            self._cpu_times.clear()

    def _gpu_load(self, now_s: float) -> float | None:
        if self._gpu is not None:
            try:
                return self._gpu.read()
            except UnreadableError:
                self._gpu = None
        elif self._looked_s is not None and now_s - self._looked_s < RETRY_S:
            return None
        self._looked_s = now_s
        tried = []
        for gpu in self._gpus:
            try:
                load = gpu.read()
            except UnreadableError as error:
                tried.append(str(error))
                continue
            self._gpu = gpu
            self._note("GPU", "", gpu.about)
            return load
        self._note("GPU", "; ".join(tried))
        return None

    def _times(self) -> CpuTimes | None:
        return self._tried("CPU", host.cpu_times)

    def _tried(self, what: str, read: Callable[[Path], T]) -> T | None:
        try:
            found = read(self._proc)
        except UnreadableError as error:
            self._note(what, str(error))
            return None
        self._note(what, "")
        return found

    def _note(self, what: str, problem: str, source: str = "") -> None:
        """Log once that something can't be read, and once that it can again."""
        before = self._problems.get(what)
        self._problems[what] = problem
        if problem and problem != before:
            log.warning("%s: no figure; tried: %s", what, problem)
        elif not problem and (before or (before is None and source)):
            log.info("%s: read from %s", what, source or "where it should be")
