"""The figures as Prometheus reads them. A figure that is not known has no series."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from posture.exporter.sampler import WINDOW_S, Sampler


class NodeCollector(Collector):
    """Shows what the sampler knows at each scrape."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return nothing: no series is there for certain."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield each figure that is known."""
        now = self._sampler.figures()
        for name, about, value in (
            (
                "gpu_usage_percent",
                f"{WINDOW_S:g} s of the GPU, 0 to 100; of several the busiest",
                now.gpu_percent,
            ),
            ("cpu_usage_percent", f"{WINDOW_S:g} s of all processors, 0 to 100.", now.cpu_percent),
            ("memory_available_bytes", "What programs can have without swapping.", now.memory_available),
            ("memory_pressure_percent", "10 s in which a task waited for memory.", now.memory_pressure_percent),
            ("exporter_read_timestamp_seconds", "When GPU or processors were read, since 1970.", now.read_at),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"posture_{name}", about, value)
