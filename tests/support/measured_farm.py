"""A real Prometheus that scrapes a fake exporter, and the usage of its nodes as posture/usage reads it."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from driven_exporter import GpuExporter, gpu_queries
from servers import PrometheusServer

from posture.settings import table
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading, UsageUnknownError

INTERVAL_S = 0.5


STALE_S = 30.0
"""How long a test waits at most for a sample to become stale."""


NODES = 40


class MeasuredFarm:
    """A Prometheus that scrapes many nodes, of which each test takes some that no other test has had."""

    def __init__(self, folder: Path) -> None:
        self.exporter = GpuExporter()
        names = [f"node-{number}" for number in range(NODES)]
        self.server = PrometheusServer(folder, self.exporter.targets(*names))
        self._unused = iter(names)

    def nodes(self, count: int) -> list[str]:
        return list(itertools.islice(self._unused, count))


def settings_for(server: PrometheusServer, **changes: Any) -> table.Prometheus:
    # not two scrape intervals, 1 s: a busy machine now and then stands still for seconds
    given = {"url": server.url, "scrape_interval_s": INTERVAL_S, "max_age_s": 8.0, "timeout_s": 20.0, **changes}
    return dataclasses.replace(table.Prometheus(), **given)


def sample(server: PrometheusServer, *nodes: str, **changes: Any) -> dict[str, Reading | UsageUnknownError]:
    return Prometheus(settings_for(server, **changes), gpu_queries(*nodes)).sample()


def sample_until(server: PrometheusServer, node: str, wanted: Callable[[Any], bool], **changes: Any) -> Any:
    """Sample until the node's answer is as wanted: there is no event for a sample that grows old."""
    asked = Prometheus(settings_for(server, **changes), gpu_queries(node))
    deadline = time.monotonic() + STALE_S
    while not wanted(found := asked.sample()[node]):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def is_unavailable(found: object) -> bool:
    return isinstance(found, UsageUnknownError)
