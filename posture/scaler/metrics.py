"""The External Scaler's own metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from posture.scaler.refresher import Usage
from posture.scaler.servicer import Answers, Calls
from posture.scaler.supervisor import Supervisor
from posture.usage.readings import Reading


class ScalerCollector(Collector):
    """Reads the scaler's state at each scrape, and changes nothing.

    Args:
        usage: the nodes.
        answers: what KEDA is told.
        calls: when it asked.
        supervisor: the balancer; None: it runs elsewhere.
    """

    def __init__(self, usage: Usage, answers: Answers, calls: Calls, supervisor: Supervisor | None) -> None:
        self._usage = usage
        self._answers = answers
        self._calls = calls
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        """Yield every figure."""
        yield from self._nodes()
        yield from self._answer()
        yield from self._keda()
        if self._supervisor is not None:
            yield _gauge("posture_balancer_up", "1 while the balancer runs.", self._supervisor.running)
            restarts = CounterMetricFamily("posture_balancer_restarts", "How often the balancer was started again.")
            restarts.add_metric([], self._supervisor.restarts)
            yield restarts

    def _nodes(self) -> Iterator[Metric]:
        usage = GaugeMetricFamily("posture_node_usage_percent", "Usage; only of valid samples.", labels=["node"])
        valid = GaugeMetricFamily("posture_node_valid", "1 if the newest sample is valid.", labels=["node"])
        signals = GaugeMetricFamily(
            "posture_node_signal_percent",
            "What the usage is made of; only of valid samples.",
            labels=["node", "signal"],
        )
        for node, found in self._usage.sampled.items():
            valid.add_metric([node], isinstance(found, Reading))
            if isinstance(found, Reading):
                usage.add_metric([node], found.value)
                for name, percent in found.signals.items():
                    signals.add_metric([node, name], percent)
        yield usage
        yield signals
        yield valid

    def _answer(self) -> Iterator[Metric]:
        debounce = self._answers.debounce
        yield _gauge("posture_scaler_active", "1 while IsActive is answered with true.", debounce.active)
        yield _gauge("posture_scaler_metric_value", "What GetMetrics is answered with.", debounce.value)
        yield _gauge(
            "posture_scaler_overloaded_seconds",
            "For how long, on valid data, every node has been overloaded.",
            debounce.full_s,
        )
        yield _age(
            "posture_scaler_snapshot_age_seconds", "Since the last valid sample of any node.", self._usage.valid_at
        )

    def _keda(self) -> Iterator[Metric]:
        yield _age("posture_scaler_keda_age_seconds", "Since the last call.", self._calls.last_at)
        by_job = GaugeMetricFamily(
            "posture_scaler_scaledjob_age_seconds",
            "Since the last call for this ScaledJob; of those that asked last.",
            labels=["namespace", "scaledjob"],
        )
        now = time.monotonic()
        for job, at in self._calls.last_by_job.copy().items():
            by_job.add_metric(job, now - at)
        yield by_job


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)


def _age(name: str, about: str, at: float | None) -> Metric:
    """Return the age of a moment as a gauge; without a sample if the moment never came."""
    return GaugeMetricFamily(name, about, value=None if at is None else time.monotonic() - at)
