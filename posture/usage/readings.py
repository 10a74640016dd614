"""From the samples of a series to a node's usage, or to the reason why it is unknown. Pure.

Only a fresh, finite number from 0 to 100 is a usage (rule R6 of the planner).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from posture.settings.table import GpuQuery
from posture.usage.scale import Scales


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
class Series:
    """The raw samples of one series, oldest first.

    Args:
        times: seconds since the epoch.
        values: one for each time.
    """

    times: tuple[float, ...]
    values: tuple[float, ...]
    gpu: tuple[tuple[str, str], ...] = ()
    """The labels that tell its GPU from others of the same node."""

    @property
    def newest_at(self) -> float:
        """Time of the newest sample, in seconds since the epoch."""
        return self.times[-1]

    @property
    def changed_at(self) -> float:
        """Time since which the series has had its newest value, as far back as its samples go."""
        since = self.times[-1]
        for at, value in zip(reversed(self.times), reversed(self.values), strict=True):
            if value != self.values[-1]:
                break
            since = at
        return since


def merged(series: Sequence[Series]) -> list[Series]:
    """Return one series for each GPU: exporters begin another one whenever somebody else uses it.

    Of two values of one scrape, the larger one counts.
    """
    samples: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
    for one in series:
        of_gpu = samples.setdefault(one.gpu, {})
        for at, value in zip(one.times, one.values, strict=True):
            of_gpu[at] = max(value, of_gpu.get(at, value))
    return [
        Series(tuple(times), tuple(of_gpu[at] for at in times), gpu)
        for gpu, of_gpu in samples.items()
        for times in [sorted(of_gpu)]
    ]


SeriesByName = Mapping[tuple[str, str], Sequence[Series]]
"""Series by metric and instance."""


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

    def read(self, node: str, query: GpuQuery, series: SeriesByName, now: float) -> Reading:
        """Return a node's usage.

        Args:
            node: its name.
            query: where its usage is measured.
            series: what Prometheus returned for all nodes.
            now: seconds since the epoch, by the clock of the samples' times.

        Raises:
            UsageUnknownError: there is no such series or more than one, or it is stale or not a percentage.
        """
        name = f'{query.metric}{{instance="{query.instance}"}}'
        found = merged(series.get((query.metric, query.instance), []))
        if not found:
            reason = f"{name} is not there: the target is down, or the metric has another name"
            raise UsageUnknownError(node, None, reason)
        fresh = [one for one in found if now - one.newest_at <= self.max_age_s]
        usage = max(fresh or found, key=lambda one: one.newest_at)
        factor = self.scales.factor(query)
        scaled = tuple(one * factor for one in usage.values)
        value = scaled[-1]
        accepted = f"accepted: {self.max_age_s:g} s"
        if not fresh:
            reason = f"{name} is stale: {value:g} is {now - usage.newest_at:.1f} s old; {accepted}"
            raise UsageUnknownError(node, value, reason)
        if len(fresh) > 1:
            reason = f"{name} are {len(fresh)} series; accepted: one for each node"
            raise UsageUnknownError(node, value, reason)
        doubt = self.scales.doubt(node, query, usage.values)
        if not _is_percentage(value):
            raise UsageUnknownError(node, value, f"{name} is {value:g}; accepted: 0 to 100")
        if doubt:
            raise UsageUnknownError(node, value, f"{name} is {value:g} and {doubt}")
        # an exporter whose GPU hangs may keep exporting its last value
        beside = series.get((self.freshness_metric, query.instance))
        if beside:
            still_s = usage.newest_at - max(one.changed_at for one in beside)
            if still_s > self.max_age_s:
                reason = f"{name} is stale: {self.freshness_metric} beside it has stood still for {still_s:.1f} s"
                raise UsageUnknownError(node, value, f"{reason}; {accepted}")
        pairs = zip(usage.times, scaled, strict=True)
        scrapes = tuple((at, one) for at, one in pairs if _is_percentage(one))
        return Reading({query.metric: SignalReading(value, usage.newest_at, scrapes)})


def _is_percentage(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= 100
