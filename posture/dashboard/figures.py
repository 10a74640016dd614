"""What the streams say, as Prometheus reads it: one place to scrape, instead of Jobs that come and go.

A stream that is gone has no series any more. What a stream has not said has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from posture.dashboard.live import Live
from posture.dashboard.sources import State
from posture.dashboard.streams import Account, Stream

Family = TypeVar("Family", bound=Metric)


class StreamsCollector(Collector):
    """The figures of all streams at each scrape.

    Args:
        live: what is known of them.
    """

    def __init__(self, live: Live) -> None:
        self._live = live

    def describe(self) -> Iterator[Metric]:
        """Return nothing: no series is there for certain."""
        return iter(())

    def collect(self) -> Iterable[Metric]:
        """Return all figures."""
        families = _Families()
        with self._live.hold():
            for stream in self._live.streams.values():
                families.add(stream)
            for topic, count in self._live.streams.malformed.items():
                families.malformed.add_metric([topic], count)
            for name, source in self._live.sources.items():
                if source.state in {State.UP, State.DOWN}:
                    families.sources.add_metric([name], float(source.state is State.UP))
        return families.all


class _Families:
    """One scrape's families."""

    def __init__(self) -> None:
        self.all: list[Metric] = []

        def gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
            return self._keep(GaugeMetricFamily(f"posture_{name}", about, labels=labels))

        def counter(name: str, about: str, *labels: str) -> CounterMetricFamily:
            return self._keep(CounterMetricFamily(f"posture_{name}", about, labels=labels))

        one = "stream"
        self.online = gauge("stream_online", "1 while an analyzer has the stream.", one)
        self.analyzer = gauge("stream_analyzer", "1: where its analyzer runs, on what.", one, "node", "delegate")
        self.condition = gauge("stream_condition", "1: good, bad, unknown, away, silent, ...", one, "condition")
        self.frames = counter(
            "stream_frames", "Since the analyzer's start, by what became of them.", one, "outcome"
        )
        self.verdicts = counter("stream_verdicts", "Rows since the analyzer's start.", one, "verdict")
        self.missing = gauge("stream_missing_frames", "The camera numbered them, and they have no row.", one)
        self.rate = gauge("stream_frames_per_second", "Rows a second, over 5 s.", one)
        self.last = gauge("stream_last_frame_timestamp_seconds", "When its last frame came, since 1970.", one)
        self.ahead = gauge(
            "stream_clock_ahead_seconds", "Of its camera's clock; below 0: slow, or frames are late.", one
        )
        self.neck = gauge("stream_neck_degrees", "Smoothed angle of the neck.", one)
        self.body = gauge("stream_body_degrees", "Smoothed angle of the trunk.", one)
        self.alerts = counter("stream_alerts", "Since the dashboard's start.", one)
        self.delay = self._keep(
            HistogramMetricFamily("posture_stream_delay_seconds", "From capture to committed row.", labels=[one])
        )
        self.analysis = self._keep(
            SummaryMetricFamily("posture_stream_analysis_seconds", "Landmarks of one frame.", labels=[one])
        )
        self.malformed = counter("dashboard_malformed", "Messages that could not be read.", "topic")
        self.sources = gauge("dashboard_source_up", "1 while a source of the page answers.", "source")

    def _keep(self, family: Family) -> Family:
        self.all.append(family)
        return family

    def add(self, stream: Stream) -> None:
        """Add one stream's samples."""
        name = [stream.pi_id]
        self.condition.add_metric([*name, stream.condition], 1)
        self.alerts.add_metric(name, stream.alerts)
        # of a stream that is in the list and has never had an analyzer, too
        online = stream.analyzer is not None and stream.analyzer.online
        self.online.add_metric(name, float(online))
        if stream.analyzer is not None and online:
            self.analyzer.add_metric([*name, stream.analyzer.node, stream.analyzer.delegate], 1)
        if stream.last_frame_at is not None:
            self.last.add_metric(name, stream.last_frame_at)
        if stream.ahead_s is not None:
            self.ahead.add_metric(name, stream.ahead_s)
        if stream.posture is not None:
            for family, angle in ((self.neck, stream.posture.neck), (self.body, stream.posture.body)):
                if angle is not None:
                    family.add_metric(name, angle)
        if stream.account is not None:
            self._add_account(name, stream.account)

    def _add_account(self, name: list[str], account: Account) -> None:
        outcomes = {
            "analyzed": account.analyzed,
            "expired": account.expired,
            "duplicate": account.duplicate,
            "malformed": account.malformed,
            **{f"rejected_{reason}": count for reason, count in account.rejected.items()},
        }
        for outcome, count in outcomes.items():
            self.frames.add_metric([*name, outcome], count)
        for verdict, count in (("good", account.good), ("bad", account.bad), ("unknown", account.unknown)):
            self.verdicts.add_metric([*name, verdict], count)
        self.missing.add_metric(name, account.missing)
        self.rate.add_metric(name, account.fps)
        if account.delay is not None:
            self.delay.add_metric(name, list(account.delay.buckets), account.delay.sum_s)
        if account.analysis is not None:
            self.analysis.add_metric(name, account.analysis.count, account.analysis.sum_s)
