"""How busy each node's processors are, by what the kernel has accounted to the node's containers.

All nodes share this machine's kernel, and its /proc/stat is about all of them. So each node gets one of its own, as
lxcfs makes them for containers: of a node that is as large as said, and as busy as its containers really are.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from real_nodes import CGROUPS, CONTAINERS, RealNode, read

from posture.system import files

LOOK_S = 0.5
TICKS = 100
"""A second has so many, of each processor."""
PLACE = "posture-proc"
"""Below the node's /var/lib."""


class NodeProcessors:
    """Writes each node's /proc/stat, until it is closed.

    Attributes:
        cores: node -> how many processors it has; set it at will.
        used_s: node -> processor time of its containers so far.
        looked_s: when that was, on the monotonic clock.
    """

    def __init__(self, nodes: Mapping[str, RealNode], cores: float) -> None:
        self.cores = defaultdict(lambda: cores)  # one may join meanwhile
        self.used_s: Counter[str] = Counter()
        self._nodes = nodes
        self._seen: dict[str, float] = {}
        """Container -> its processor time at the last look."""
        self._ticks: dict[str, tuple[float, float]] = {}
        """Node -> busy and idle."""
        self.looked_s = self._last_s = time.monotonic()
        self._end = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._end.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        now_s = time.monotonic()
        passed_s, self._last_s = now_s - self._last_s, now_s
        for name, node in list(self._nodes.items()):
            used_s = 0.0
            for container in node.main_processes():
                total_s = processor_time(container)
                used_s += max(0.0, total_s - self._seen.get(container, total_s))
                self._seen[container] = total_s
            self.used_s[name] += used_s
            busy, idle = self._ticks.get(name, (0.0, 0.0))
            whole = passed_s * self.cores[name] * TICKS
            more = min(whole, used_s * TICKS)
            self._ticks[name] = busy + more, idle + whole - more
            self._write(name, node.disk / PLACE)
        self.looked_s = now_s

    def _write(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        busy, idle = map(round, self._ticks[name])
        files.replace(folder / "stat", f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n".encode())


def processor_time(container: str) -> float:
    """A container's processor time so far in seconds, as its cgroup has it; 0 once that is gone."""
    version_1 = read(str(CGROUPS / "cpuacct" / CONTAINERS / container / "cpuacct.usage"))
    if version_1:
        return int(version_1) / 1e9
    for line in read(str(CGROUPS / CONTAINERS / container / "cpu.stat")).splitlines():
        key, value = line.split()
        if key == "usage_usec":
            return int(value) / 1e6
    return 0.0
