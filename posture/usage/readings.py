"""From the samples of a series to a node's usage, or to the reason why it is unknown. Pure.

Only a fresh, finite number from 0 to 100 is a usage (rule R6 of the planner).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from posture.settings.signals import Signal
from posture.settings.table import GpuQuery, NodeQuery
from posture.usage.instances import by_host, labels_of
from posture.usage.scale import Scales, scale_setting
from posture.usage.series import Series, SeriesByInstance, combined, is_percentage, merged


class UsageUnknownError(Exception):
    """A node's usage is not known.

    Args:
        node: the node.
        value: percent, as Prometheus returned it; None if it returned nothing.
        reason: why this is not accepted as the usage.
    """

    def __init__(self, node: str, value: float | None, reason: str) -> None:
        super().__init__(f"{node}: {reason}")
        self.node = node
        self.value = value
        self.reason = reason


@dataclass(frozen=True)
class SignalReading:
    """One signal of a node at its newest scrape.

    Args:
        value: percent, 0 to 100.
        at: time of that scrape in seconds since the epoch, by the clock given to Prometheus.
        scrapes: time and value of each valid scrape within the query's range, oldest first; the last one is this.
    """

    value: float
    at: float
    scrapes: tuple[tuple[float, float], ...] = field(repr=False)


@dataclass(frozen=True)
class Reading:
    """A node's usage: that of its scarcest resource, the largest of its signals.

    Args:
        of_signal: signal -> what it shows; at least one. A node that is read by a metric has one of that name.
    """

    of_signal: Mapping[str, SignalReading]

    @property
    def signals(self) -> Mapping[str, float]:
        """Signal -> percent, 0 to 100."""
        return {name: one.value for name, one in self.of_signal.items()}

    @property
    def value(self) -> float:
        """Percent, 0 to 100."""
        return max(one.value for one in self.of_signal.values())

    @property
    def at(self) -> float:
        """Time of the newest scrape in seconds since the epoch; of several signals, the one that lags behind."""
        return min(one.at for one in self.of_signal.values())


@dataclass(frozen=True)
class Answer:
    """What Prometheus has told of one signal, or of the freshness metric.

    Args:
        at: when, in seconds since the epoch, by the clock of the samples' times.
        series: by the label ``instance``.
        refused: why there is nothing; empty: it was answered.
    """

    at: float
    series: SeriesByInstance = field(default_factory=dict)
    refused: str = ""

    @cached_property
    def hosts(self) -> Mapping[str, Sequence[str]]:
        """Host -> the labels ``instance`` of its exporters."""
        return by_host(self.series)


@dataclass(frozen=True)
class Reader:
    """Judges the series of each node.

    Args:
        max_age_s: a sample that is older is stale, seconds.
        freshness_metric: a metric beside the usage that changes with every measurement; empty: none.
    """

    max_age_s: float
    freshness_metric: str
    scales: Scales = field(default_factory=Scales)

    def read(
        self, queries: Mapping[str, NodeQuery], answers: Mapping[Signal, Answer], beside: SeriesByInstance
    ) -> dict[str, Reading | UsageUnknownError]:
        """Return node -> its usage, or why it is unknown. A node is unknown while one of its signals is.

        Args:
            queries: GPU_QUERIES.
            answers: what Prometheus returned for each signal, for all nodes.
            beside: what it returned for the freshness metric.
        """
        owned = {query.instance for query in queries.values()}
        read: dict[str, Reading | UsageUnknownError] = {}
        for node, query in queries.items():
            found: dict[str, SignalReading] = {}
            unknown: dict[str, UsageUnknownError] = {}
            for signal in query.signals:
                try:
                    answer = answers[signal]
                    series = _series_of(node, query.instance, owned, signal, answer)
                    found[signal.name] = self._signal(node, query, signal, series, answer.at, beside)
                except UsageUnknownError as error:
                    unknown.setdefault(error.reason, error)  # a server's trouble is that of all signals
            if unknown:
                value = next(iter(unknown.values())).value
                read[node] = UsageUnknownError(node, value, "; ".join(unknown))
            else:
                read[node] = Reading(found)
        return read

    def _signal(
        self,
        node: str,
        query: NodeQuery,
        signal: Signal,
        series: Sequence[Series],
        now: float,
        beside: SeriesByInstance,
    ) -> SignalReading:
        """Judge the series of one signal of a node; there is at least one.

        Raises:
            UsageUnknownError: they are too many, or stale, or not a percentage.
        """
        name = _shown(signal, query.instance)
        found = [one.scaled(self.scales.factor(signal)) for one in merged(series)]
        accepted = f"accepted: {self.max_age_s:g} s"
        fresh = [one for one in found if now - one.newest_at <= self.max_age_s]
        if not fresh:
            newest = max(found, key=lambda one: one.newest_at)
            reason = f"{name} is stale: {newest.values[-1]:g} is {now - newest.newest_at:.1f} s old; {accepted}"
            raise UsageUnknownError(node, newest.values[-1], reason)
        several = "" if isinstance(query, GpuQuery) else f", or signals.{signal.name}.several: max, avg or sum"
        if len(fresh) > 1 and signal.several == "refuse":
            reason = f"{name} are {len(fresh)} series; accepted: one for each node{several}"
            raise UsageUnknownError(node, fresh[0].values[-1], reason)
        usage = combined(fresh, signal.several, self.max_age_s) if len(fresh) > 1 else fresh[0]
        value = usage.values[-1]
        shown = [one for part in fresh for one in part.values]
        doubt = self.scales.doubt(signal, scale_setting(node, query, signal), shown)
        if not is_percentage(value):
            raise UsageUnknownError(node, value, f"{name} is {value:g}; accepted: 0 to 100")
        if doubt:
            raise UsageUnknownError(node, value, f"{name} is {value:g} and {doubt}")
        # an exporter whose GPU hangs may keep exporting its last value
        watched = [beside[part.instance] for part in fresh if part.instance in beside]
        if watched:
            still_s = usage.newest_at - min(max(one.changed_at for one in measured) for measured in watched)
            if still_s > self.max_age_s:
                reason = f"{name} is stale: {self.freshness_metric} beside it has stood still for {still_s:.1f} s"
                raise UsageUnknownError(node, value, f"{reason}; {accepted}")
        pairs = zip(usage.times, usage.values, strict=True)
        return SignalReading(value, usage.newest_at, tuple((at, one) for at, one in pairs if is_percentage(one)))


def _series_of(node: str, instance: str, owned: Collection[str], signal: Signal, answer: Answer) -> list[Series]:
    """Return the series of a signal that are a node's.

    Raises:
        UsageUnknownError: there is none.
    """
    if answer.refused:
        raise UsageUnknownError(node, None, answer.refused)
    labels = labels_of(instance, answer.series, answer.hosts, owned)
    found = [one for label in labels for one in answer.series[label]]
    if not found:
        why = (
            "the target is down, or the metric has another name"
            if signal.metric
            else f"the target is down, its query has no such instance, or {' and '.join(signal.fresh)} lacks it"
        )
        raise UsageUnknownError(node, None, f"{_shown(signal, instance)} is not there: {why}")
    return found


def _shown(signal: Signal, instance: str) -> str:
    labels = "".join(f',{name}="{value}"' for name, value in signal.labels)
    return f'{signal.metric or f"signal {signal.name}"}{{instance="{instance}"{labels}}}'
