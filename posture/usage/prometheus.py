"""A client of Prometheus that asks for the usage of all nodes at once, with one query for each signal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from posture.errors import UserError
from posture.settings import table
from posture.settings.paths import path_of
from posture.settings.signals import Signal
from posture.settings.table import GpuQuery, NodeQuery, SignalQuery
from posture.system.server_clock import offset_that_fits
from posture.system.untrusted import shown
from posture.usage.deadline import DeadlineSession
from posture.usage.queries import batched_query, parse_answer, parse_signal, signal_query
from posture.usage.readings import Answer, Reader, Reading, UsageUnknownError
from posture.usage.series import SeriesByInstance
from posture.usage.service_address import route_to

LEAST_LOOKBACK_S = 30.0
"""A query covers at least this range, so that a series that ended within it is reported as stale, not as absent."""
MOST_BYTES = 16 << 20
"""Of an answer; that of a thousand nodes has one."""
CHUNK_BYTES = 1 << 16
"""An answer is read in chunks of at most this size."""
TOLERANCE_S = 0.5
"""How far the offset of two clocks may appear to drift."""

Answered = TypeVar("Answered")


class PrometheusUnavailableError(Exception):
    """Prometheus can't be asked, or what it answers is not an answer to the query."""


class QueryRefusedError(PrometheusUnavailableError):
    """Prometheus answers this query with an error; it may answer another one."""


_NOTHING: Mapping[str, SeriesByInstance] = {}


@dataclass(frozen=True)
class _Question:
    """One query.

    Args:
        text: in PromQL.
        signals: what it asks for: those of all nodes that are read by a metric, or one of cluster.yaml's.
        about: how an error about it begins; empty for metrics.
    """

    text: str
    signals: tuple[Signal, ...]
    about: str = ""

    def parse(self, body: Any, ahead_s: float) -> Mapping[str, SeriesByInstance]:
        """Return the series by metric or signal; see :func:`parse_answer`."""
        if not self.about:
            return parse_answer(body, ahead_s)
        (signal,) = self.signals
        return {signal.name: parse_signal(signal, body, ahead_s)}


class Prometheus:
    """One Prometheus server.

    Args:
        settings: address, credentials, intervals.
        queries: node -> where its usage is read.
        clock: returns seconds since the epoch; the times of scrapes are by this clock. Those of Prometheus' own
            clock are shifted where the two differ by more than a second.
        lookback_s: how far back the samples go, at least, in seconds.
        context: the kubeconfig's, for a Prometheus that is a Service of the cluster.

    Raises:
        UserError: ``ca_file`` names no file, or the cluster's credentials can't be used.
    """

    def __init__(
        self,
        settings: table.Prometheus,
        queries: Mapping[str, NodeQuery],
        clock: Callable[[], float] | None = None,
        *,
        lookback_s: float = LEAST_LOOKBACK_S,
        context: str = "",
    ) -> None:
        self._settings = settings
        self._clock = clock or time.time
        self._ahead_s = 0.0
        self._follow: Callable[[], Mapping[str, NodeQuery]] | None = None
        max_age_s = settings.max_age_s or 2 * settings.scrape_interval_s
        self._reader = Reader(max_age_s, settings.freshness_metric)
        self._lookback_s = max(3 * max_age_s, lookback_s)
        self._ask_about(queries)
        route = route_to(settings.url, context)
        self._url = route.url
        self._session = DeadlineSession(route.tls)
        if route.proxy:
            self._session.proxies = {"http": route.proxy, "https": route.proxy}
        # what is compressed may be a thousand times as large as it looks
        self._session.headers["Accept-Encoding"] = "identity"
        # Always set: otherwise requests takes a user from ~/.netrc, and prefers a CA bundle from the environment.
        self._session.auth = route.auth or _credentials(settings)
        self._verify: str | bool = True
        if settings.ca_file:
            path = path_of(settings.ca_file)
            if not path.is_file():
                raise UserError(f"prometheus.ca_file: {path} is no file; accepted: certificates in PEM format")
            self._verify = str(path)

    def follow(self, queries: Callable[[], Mapping[str, NodeQuery]]) -> None:
        """Ask at each sample about what this returns then, instead of what was given at the start."""
        self._follow = queries

    @property
    def queries(self) -> Mapping[str, NodeQuery]:
        """What the last sample was asked about."""
        return self._queries

    def _ask_about(self, queries: Mapping[str, NodeQuery]) -> None:
        self._queries = dict(queries)
        settings = self._settings
        batched = [query for query in queries.values() if isinstance(query, GpuQuery)]
        metrics = {query.metric for query in batched} | {settings.freshness_metric} - {""}
        instances: dict[Signal, set[str]] = {}
        for query in queries.values():
            for signal in query.signals if isinstance(query, SignalQuery) else ():
                instances.setdefault(signal, set()).add(query.instance)
        self._questions = []
        if metrics:
            # the freshness metric is asked for beside every signal
            where = {query.instance for query in (queries.values() if settings.freshness_metric else batched)}
            text = batched_query(metrics, where, self._lookback_s)
            self._questions.append(_Question(text, tuple(one for query in batched for one in query.signals)))
        for signal, where in instances.items():
            text = signal_query(signal, where, self._lookback_s, settings.scrape_interval_s)
            self._questions.append(_Question(text, (signal,), f"signals.{signal.name}: "))

    def sample(self) -> dict[str, Reading | UsageUnknownError]:
        """Ask for all nodes: once for all that are read by a metric, and once for each signal.

        Returns:
            For each node its usage, or the error that says why it is unknown; the error is returned, not raised.
        """
        if self._follow is not None and (queries := self._follow()) != self._queries:
            self._ask_about(queries)
        answers: dict[Signal, Answer] = {}
        beside: SeriesByInstance = {}
        down = ""
        for question in self._questions:
            at, found, refused = self._clock(), _NOTHING, down
            try:
                if not down:
                    at, found = self._ask(question)
            except QueryRefusedError as error:
                refused = f"{question.about}{error}"
            except PrometheusUnavailableError as error:
                refused = down = str(error)  # each further query would only wait as long
            answers |= {one: Answer(at, found.get(one.name, {}), refused) for one in question.signals}
            if not question.about:
                beside = found.get(self._settings.freshness_metric, {})
        return self._reader.read(self._queries, answers, beside)

    def vector(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        """Return labels and value of each series that an instant query gives now.

        Args:
            query: PromQL.

        Raises:
            PrometheusUnavailableError: Prometheus can't be asked, or does not answer with a vector.
        """

        def parse(body: Any, ahead_s: float) -> list[tuple[Mapping[str, str], float]]:
            del ahead_s
            return [(dict(one["metric"]), float(one["value"][1])) for one in body["data"]["result"]]

        return self._answer(query, parse)

    def _ask(self, question: _Question) -> tuple[float, Mapping[str, SeriesByInstance]]:
        """Return the time of the answer in seconds since the epoch, and the series by metric or signal."""
        series = self._answer(question.text, question.parse)
        return self._clock(), series

    def _answer(self, query: str, parse: Callable[[Any, float], Answered]) -> Answered:
        """Return what an answer says.

        Args:
            query: PromQL.
            parse: takes the answer's JSON and by how many seconds the server's clock is ahead.
        """
        settings = self._settings
        asked_at = self._clock()
        with self._session.within(settings.timeout_s) as late:
            try:
                with self._session.post(
                    f"{self._url}/api/v1/query",
                    data={"query": query, "timeout": f"{round(settings.timeout_s * 1000)}ms"},
                    timeout=settings.timeout_s,
                    verify=self._verify,
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    body = self._body(answer)
                if late.is_set():
                    # a body of unknown length ends where the connection is cut
                    raise requests.Timeout
            # requests' own errors are OSErrors, too; another one is raised when ca_file has been deleted meanwhile
            except (OSError, urllib3.exceptions.HTTPError) as error:
                why = "it did not answer in time" if late.is_set() else _root_cause(error)
                raise PrometheusUnavailableError(f"Prometheus at {settings.url} can't be reached: {why}") from None
        if not answer.ok or answer.is_redirect:
            raise QueryRefusedError(f"Prometheus at {settings.url} {_refusal(settings.url, answer, body)}")
        try:
            return parse(json.loads(body), self._seconds_ahead(answer, asked_at))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise PrometheusUnavailableError(
                f"{settings.url} is not Prometheus: its answer is none of /api/v1/query"
            ) from None

    def _body(self, answer: requests.Response) -> bytes:
        """Return the whole body of an answer.

        Raises:
            PrometheusUnavailableError: it is too large, or compressed although that was not asked for.
            urllib3.exceptions.HTTPError: the connection broke, or was cut.
        """
        encoding = answer.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise PrometheusUnavailableError(
                f"Prometheus at {self._settings.url} sends {shown(encoding, 40)}, which was not asked for"
            )
        chunks: list[bytes] = []
        size = 0
        while chunk := answer.raw.read1(CHUNK_BYTES):
            size += len(chunk)
            if size > MOST_BYTES:
                raise PrometheusUnavailableError(
                    f"Prometheus at {self._settings.url} answers with more than {MOST_BYTES} bytes"
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _seconds_ahead(self, answer: requests.Response, asked_at: float) -> float:
        """Return by how many seconds the server's clock is ahead of ours, so that ages don't depend on ours.

        The offset is kept as long as it fits, so that the same scrape has the same time in each answer.
        """
        date = answer.headers.get("Date")
        if date is not None:
            self._ahead_s = offset_that_fits(
                self._ahead_s,
                parsedate_to_datetime(date).timestamp(),
                asked_s=asked_at,
                now_s=self._clock(),
                tolerance_s=TOLERANCE_S,
            )
        return self._ahead_s


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


def _root_cause(error: Exception) -> str:
    """Return why a server can't be reached: the innermost of the exceptions that the library has chained."""
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "it did not answer in time"
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return shown(getattr(cause, "strerror", None) or cause)


def _refusal(url: str, answer: requests.Response, body: bytes) -> str:
    """Return the error message of an answer that is not a result, with a hint for its status code."""
    by_api_server = {
        401: "; accepted: a kubeconfig whose credentials the API server takes",
        403: "; needed: the verb create on services/proxy there",
        404: "; accepted in prometheus.url: kubernetes://namespace/service:port of a Service that is there",
        503: "; its pod does not run, or the port is another one",
    }
    hints = (
        by_api_server
        if url.startswith("kubernetes://")
        else {
            401: "; accepted: prometheus.username with its password, or prometheus.token",
            403: "; prometheus.username or prometheus.token may not ask there",
            404: "; accepted in prometheus.url: the address without /api/v1",
        }
    )
    try:
        said = json.loads(body)
        # the API server's own answers are Status objects
        told = str(said["error"] if "error" in said else said["message"])
    except (KeyError, TypeError, ValueError, RecursionError):
        told = answer.reason
    return f"answers {answer.status_code}: {shown(told)}{hints.get(answer.status_code, '')}"
