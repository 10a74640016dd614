"""GPU usage from Prometheus: one query for all nodes, samples as they were scraped (rule R6 of the planner).

The query is a range selector. It returns each sample with the time of its scrape; an instant query stamps a value
with the time of the query, so that the last word of a dead exporter looks fresh for five minutes.
Whatever is not a fresh, finite number from 0 to 100 is a ``MetricUnavailable``, never a 0.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from posture.errors import UserError
from posture.settings import table
from posture.settings.paths import path_of
from posture.settings.table import GpuQuery

LEAST_LOOKBACK_S = 30.0
"""How far a query looks back at least: a series that ended within it is called stale, not absent."""
LONGEST_MATCHER = 12_000
"""Characters. Beyond it all instances are asked for and ours taken: VictoriaMetrics refuses a query of 16 KiB."""
PIECE = 1 << 16
"""Bytes of an answer that are read at once, at most."""
TOLERANCE_S = 0.5
"""So much two clocks may seem apart for the time that an answer takes."""
NEEDED_SHARE = 2 / 3
"""Of the scrapes that a window should hold."""


class MetricUnavailable(Exception):  # noqa: N818 - the name that the design gives it
    """A node's usage is not known.

    Args:
        node: the node.
        value: what Prometheus said, None if nothing.
        reason: why that is no usage.
    """

    def __init__(self, node: str, value: float | None, reason: str) -> None:
        super().__init__(f"{node}: {reason}")
        self.node = node
        self.value = value
        self.reason = reason


class PrometheusUnavailable(Exception):  # noqa: N818
    """Prometheus can't be asked, or its answer isn't one."""


@dataclass(frozen=True)
class Reading:
    """A node's usage at its newest scrape.

    Args:
        value: percent, 0 to 100.
        at: the scrape's time in seconds since the epoch, by the clock that was given.
        scrapes: time and value of each valid scrape that the query saw, oldest first; this one is the last.
    """

    value: float
    at: float
    scrapes: tuple[tuple[float, float], ...] = field(repr=False)


@dataclass(frozen=True)
class Average:
    """A node's usage over a window.

    Args:
        value: percent, 0 to 100: the mean of the distinct scrapes.
        scrapes: how many these are.
        since: the first one's time in seconds since the epoch, by the clock that was given.
        until: the last one's time.
    """

    value: float
    scrapes: int
    since: float
    until: float


@dataclass(frozen=True)
class _Series:
    """Raw samples of one series, oldest first; times in seconds since the epoch."""

    times: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def newest_at(self) -> float:
        return self.times[-1]


_ByName = Mapping[tuple[str, str], Sequence[_Series]]
"""Series by metric and instance."""


def max_age_s(settings: table.Prometheus) -> float:
    """Return how old a sample may be, in seconds."""
    return settings.max_age_s or 2 * settings.scrape_interval_s


class Prometheus:
    """Asks one server for the usage of all nodes.

    Args:
        settings: address, credentials, intervals.
        queries: node -> where its usage is read.
        clock: by which the times of scrapes are told, in seconds since the epoch. Those of Prometheus' own clock
            are shifted where the two differ by more than a second.

    Raises:
        UserError: the file of the authority can't be read.
    """

    def __init__(
        self,
        settings: table.Prometheus,
        queries: Mapping[str, GpuQuery],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or time.time
        self._ahead_s = 0.0
        self._queries = dict(queries)
        self._max_age_s = max_age_s(settings)
        self._query = _batched_query(queries, settings.freshness_metric, max(3 * self._max_age_s, LEAST_LOOKBACK_S))
        self._session = requests.Session()
        # always set: requests would else take a user from ~/.netrc, and a bundle from the environment before ours
        self._session.auth = _credentials(settings)
        self._verify: str | bool = True
        if settings.ca_file:
            path = path_of(settings.ca_file)
            if not path.is_file():
                raise UserError(f"prometheus.ca_file: {path} is no file; accepted: certificates in PEM format")
            self._verify = str(path)

    def sample(self) -> dict[str, Reading | MetricUnavailable]:
        """Ask once for all nodes; a node whose usage is not known has the reason in its place. Never raises it."""
        if not self._queries:
            return {}
        try:
            now, series = self._ask()
        except PrometheusUnavailable as error:
            return {node: MetricUnavailable(node, None, str(error)) for node in self._queries}
        sampled: dict[str, Reading | MetricUnavailable] = {}
        for node, query in self._queries.items():
            try:
                sampled[node] = self._read(node, query, series, now)
            except MetricUnavailable as error:
                sampled[node] = error
        return sampled

    def _ask(self) -> tuple[float, _ByName]:
        """Return the time, and the series by metric and instance."""
        settings = self._settings
        deadline = time.monotonic() + settings.timeout_s
        try:
            with self._session.post(
                f"{settings.url}/api/v1/query",
                data={"query": self._query, "timeout": f"{round(settings.timeout_s * 1000)}ms"},
                timeout=settings.timeout_s,
                verify=self._verify,
                allow_redirects=False,
                stream=True,
            ) as answer:
                body = _body(answer, deadline)
        # the library's own errors are OSErrors, too; one that is none of them: the authority's file is gone
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise PrometheusUnavailable(f"Prometheus at {settings.url} can't be reached: {_said(error)}") from None
        if not answer.ok or answer.is_redirect:
            raise PrometheusUnavailable(f"Prometheus at {settings.url} {_refusal(answer, body)}")
        try:
            return self._clock(), _series(json.loads(body), self._seconds_ahead(answer))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise PrometheusUnavailable(
                f"{settings.url} is not Prometheus: its answer is none of /api/v1/query"
            ) from None

    def _seconds_ahead(self, answer: requests.Response) -> float:
        """Return by how much the server's clock is ahead of ours: ages don't depend on ours, which may be wrong.

        Its answer tells the second only. The number stays while that fits, so that a scrape keeps its time.
        """
        date = answer.headers.get("Date")
        if date is not None:
            least = parsedate_to_datetime(date).timestamp() - self._clock()
            if not least - TOLERANCE_S <= self._ahead_s <= least + 1 + TOLERANCE_S:
                self._ahead_s = least + 0.5
        return self._ahead_s

    def _read(self, node: str, query: GpuQuery, series: _ByName, now: float) -> Reading:
        name = f'{query.metric}{{instance="{query.instance}"}}'
        found = series.get((query.metric, query.instance), [])
        if not found:
            reason = f"{name} is not there: the target is down, or the metric has another name"
            raise MetricUnavailable(node, None, reason)
        fresh = [one for one in found if now - one.newest_at <= self._max_age_s]
        usage = max(fresh or found, key=lambda one: one.newest_at)
        value = usage.values[-1]
        accepted = f"accepted: {self._max_age_s:g} s"
        if not fresh:
            reason = f"{name} is stale: {value:g} is {now - usage.newest_at:.1f} s old; {accepted}"
            raise MetricUnavailable(node, value, reason)
        if len(fresh) > 1:
            reason = f"{name} are {len(fresh)} series; accepted: one for each node"
            raise MetricUnavailable(node, value, reason)
        if not _is_usage(value):
            raise MetricUnavailable(node, value, f"{name} is {value:g}; accepted: 0 to 100")
        # an exporter that hangs on its GPU may repeat its last value for ever
        metric = self._settings.freshness_metric
        beside = series.get((metric, query.instance))
        if beside and (still_s := usage.newest_at - max(_changed_at(one) for one in beside)) > self._max_age_s:
            reason = f"{name} is stale: {metric} beside it has stood still for {still_s:.1f} s; {accepted}"
            raise MetricUnavailable(node, value, reason)
        pairs = zip(usage.times, usage.values, strict=True)
        return Reading(value, usage.newest_at, tuple((at, one) for at, one in pairs if _is_usage(one)))


class Window:
    """Distinct scrapes of each node over a window; the caller adds a sample every few seconds.

    A node's window begins with the newest scrape that the first sample saw; what was before is left out.

    Args:
        settings: for the scrape interval.
        length_s: the window's length in seconds; with the scrape interval it says how many scrapes are due.
    """

    def __init__(self, settings: table.Prometheus, length_s: float) -> None:
        self._length_s = length_s
        self._interval_s = settings.scrape_interval_s
        self._due = max(1, int(length_s / settings.scrape_interval_s + 1e-9))
        self._since: dict[str, float] = {}
        self._scrapes: dict[str, dict[float, float]] = {}
        self._problems: dict[str, MetricUnavailable] = {}

    def add(self, sampled: Mapping[str, Reading | MetricUnavailable]) -> None:
        """Take what one query found."""
        for node, found in sampled.items():
            scrapes = self._scrapes.setdefault(node, {})
            if isinstance(found, MetricUnavailable):
                self._problems[node] = found
                continue
            since = self._since.setdefault(node, found.at)
            scrapes.update({at: value for at, value in found.scrapes if at >= since})

    def averages(self, settles_s: Callable[[str], float] | None = None) -> dict[str, Average | MetricUnavailable]:
        """Return each node's average, or why it has none.

        Args:
            settles_s: node -> since when its scrapes are free of our own changes (R5); earlier ones are left out
                where enough others remain.
        """
        found = {}
        for node, scrapes in self._scrapes.items():
            found[node] = self._average(node, scrapes)
            if settles_s is not None:
                since = settles_s(node)
                settled = self._average(node, {at: value for at, value in scrapes.items() if at >= since})
                found[node] = settled if isinstance(settled, Average) else found[node]
        return found

    def _average(self, node: str, scrapes: Mapping[float, float]) -> Average | MetricUnavailable:
        needed = math.ceil(self._due * NEEDED_SHARE - 1e-9)
        if len(scrapes) >= needed:
            return Average(sum(scrapes.values()) / len(scrapes), len(scrapes), min(scrapes), max(scrapes))
        problem = self._problems.get(node)
        reason = (
            f"{len(scrapes)} scrapes in {self._length_s:g} s; accepted: {needed} of the {self._due} that one each "
            f"{self._interval_s:g} s should give"
        )
        if problem is None:
            return MetricUnavailable(node, None, reason)
        return MetricUnavailable(node, problem.value, f"{problem.reason} ({reason})")


def _batched_query(queries: Mapping[str, GpuQuery], freshness_metric: str, lookback_s: float) -> str:
    """Return the one query. Names and instances were checked by the settings, and are quoted all the same."""
    names = {query.metric for query in queries.values()} | {freshness_metric} - {""}
    instances = {query.instance for query in queries.values()}
    those = f"instance=~{_any_of(instances)}"
    if len(those) > LONGEST_MATCHER:
        those = 'instance!=""'
    return f"{{__name__=~{_any_of(names)},{those}}}[{math.ceil(lookback_s * 1000)}ms]"


def _any_of(texts: set[str]) -> str:
    """Return a PromQL string: a regular expression for these texts and no other (Prometheus anchors it)."""
    return json.dumps("|".join(re.escape(text) for text in sorted(texts)))


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _credentials(settings: table.Prometheus) -> AuthBase:
    if settings.username:
        return HTTPBasicAuth(settings.username.encode(), settings.password.encode())
    return _Bearer(settings.token)


def _body(answer: requests.Response, deadline: float) -> bytes:
    """Read an answer; the library's time-out begins anew with every piece that comes.

    Raises:
        requests.Timeout: it isn't whole at the deadline, by time.monotonic().
        urllib3.exceptions.HTTPError: the server broke off or hangs.
    """
    pieces = []
    while piece := answer.raw.read1(PIECE, decode_content=True):
        if time.monotonic() > deadline:
            raise requests.Timeout
        pieces.append(piece)
    return b"".join(pieces)


def _said(error: Exception) -> str:
    """Return why a server can't be reached, without the layers of the library."""
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "it did not answer in time"
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return str(getattr(cause, "strerror", None) or cause)


def _refusal(answer: requests.Response, body: bytes) -> str:
    """Return what an answer that is no result says."""
    hints = {
        401: "; accepted: prometheus.username with its password, or prometheus.token",
        403: "; prometheus.username or prometheus.token may not ask there",
        404: "; accepted in prometheus.url: the address without /api/v1",
    }
    try:
        told = str(json.loads(body)["error"])
    except (KeyError, TypeError, ValueError, RecursionError):
        told = answer.reason
    return f"answers {answer.status_code}: {told}{hints.get(answer.status_code, '')}"


def _series(body: Any, ahead_s: float) -> _ByName:
    """Return the series of a matrix by metric and instance; its times are by a clock that is so much ahead."""
    if body["data"]["resultType"] != "matrix":
        raise ValueError(body["data"]["resultType"])
    found: dict[tuple[str, str], list[_Series]] = {}
    for one in body["data"]["result"]:
        values = one.get("values")  # absent in a native histogram
        if values:
            times = tuple(float(at) - ahead_s for at, _ in values)
            series = _Series(times, tuple(float(text) for _, text in values))
            found.setdefault((one["metric"]["__name__"], one["metric"]["instance"]), []).append(series)
    return found


def _is_usage(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= 100


def _changed_at(series: _Series) -> float:
    """Return since when a series has had its newest value, as far as it is seen."""
    since = series.times[-1]
    for at, value in zip(reversed(series.times), reversed(series.values), strict=True):
        if value != series.values[-1]:
            break
        since = at
    return since
