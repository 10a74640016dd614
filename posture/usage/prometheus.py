"""A client of Prometheus that asks for the usage of all nodes at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from posture.errors import UserError
from posture.settings import table
from posture.settings.paths import path_of
from posture.settings.table import GpuQuery
from posture.system.untrusted import shown
from posture.usage.deadline import DeadlineSession
from posture.usage.queries import batched_query, parse_answer
from posture.usage.readings import Reader, Reading, SeriesByName, UsageUnknownError

LEAST_LOOKBACK_S = 30.0
"""A query covers at least this range, so that a series that ended within it is reported as stale, not as absent."""
MOST_BYTES = 16 << 20
"""Of an answer; that of a thousand nodes has one."""
CHUNK_BYTES = 1 << 16
"""An answer is read in chunks of at most this size."""
TOLERANCE_S = 0.5
"""How far the offset of two clocks may appear to drift because of the time that an answer takes."""


class PrometheusUnavailableError(Exception):
    """Prometheus can't be asked, or what it answers is not an answer to the query."""


class Prometheus:
    """One Prometheus server.

    Args:
        settings: address, credentials, intervals.
        queries: node -> instance and metric of its usage.
        clock: returns seconds since the epoch; the times of scrapes are by this clock. Those of Prometheus' own
            clock are shifted where the two differ by more than a second.

    Raises:
        UserError: ``ca_file`` names no file.
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
        self._follow: Callable[[], Mapping[str, GpuQuery]] | None = None
        max_age_s = settings.max_age_s or 2 * settings.scrape_interval_s
        self._reader = Reader(max_age_s, settings.freshness_metric)
        self._lookback_s = max(3 * max_age_s, LEAST_LOOKBACK_S)
        self._ask_about(queries)
        self._session = DeadlineSession()
        # what is compressed may be a thousand times as large as it looks
        self._session.headers["Accept-Encoding"] = "identity"
        # Always set: otherwise requests takes a user from ~/.netrc, and prefers a CA bundle from the environment.
        self._session.auth = _credentials(settings)
        self._verify: str | bool = True
        if settings.ca_file:
            path = path_of(settings.ca_file)
            if not path.is_file():
                raise UserError(f"prometheus.ca_file: {path} is no file; accepted: certificates in PEM format")
            self._verify = str(path)

    def follow(self, queries: Callable[[], Mapping[str, GpuQuery]]) -> None:
        """Ask at each sample about what this returns then, instead of what was given at the start."""
        self._follow = queries

    @property
    def queries(self) -> Mapping[str, GpuQuery]:
        """What the last sample was asked about."""
        return self._queries

    def _ask_about(self, queries: Mapping[str, GpuQuery]) -> None:
        self._queries = dict(queries)
        self._query = batched_query(queries, self._settings.freshness_metric, self._lookback_s)

    def sample(self) -> dict[str, Reading | UsageUnknownError]:
        """Ask once for all nodes.

        Returns:
            For each node its usage, or the error that says why it is unknown; the error is returned, not raised.
        """
        if self._follow is not None and (queries := self._follow()) != self._queries:
            self._ask_about(queries)
        if not self._queries:
            return {}
        try:
            now, series = self._ask()
        except PrometheusUnavailableError as error:
            return {node: UsageUnknownError(node, None, str(error)) for node in self._queries}
        sampled: dict[str, Reading | UsageUnknownError] = {}
        for node, query in self._queries.items():
            try:
                sampled[node] = self._reader.read(node, query, series, now)
            except UsageUnknownError as error:
                sampled[node] = error
        return sampled

    def _ask(self) -> tuple[float, SeriesByName]:
        """Return the time of the answer in seconds since the epoch, and the series by metric and instance."""
        settings = self._settings
        with self._session.within(settings.timeout_s) as late:
            try:
                with self._session.post(
                    f"{settings.url}/api/v1/query",
                    data={"query": self._query, "timeout": f"{round(settings.timeout_s * 1000)}ms"},
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
            raise PrometheusUnavailableError(f"Prometheus at {settings.url} {_refusal(answer, body)}")
        try:
            return self._clock(), parse_answer(json.loads(body), self._seconds_ahead(answer))
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

    def _seconds_ahead(self, answer: requests.Response) -> float:
        """Return by how many seconds the server's clock is ahead of ours, so that ages don't depend on ours.

        The Date header has a resolution of one second. The offset is kept as long as it fits the header, so that
        the same scrape has the same time in each answer.
        """
        date = answer.headers.get("Date")
        if date is not None:
            least = parsedate_to_datetime(date).timestamp() - self._clock()
            if not least - TOLERANCE_S <= self._ahead_s <= least + 1 + TOLERANCE_S:
                self._ahead_s = least + 0.5
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


def _refusal(answer: requests.Response, body: bytes) -> str:
    """Return the error message of an answer that is not a result, with a hint for its status code."""
    hints = {
        401: "; accepted: prometheus.username with its password, or prometheus.token",
        403: "; prometheus.username or prometheus.token may not ask there",
        404: "; accepted in prometheus.url: the address without /api/v1",
    }
    try:
        told = str(json.loads(body)["error"])
    except (KeyError, TypeError, ValueError, RecursionError):
        told = answer.reason
    return f"answers {answer.status_code}: {shown(told)}{hints.get(answer.status_code, '')}"
