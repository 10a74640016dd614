"""What only shows over several readings of the cluster: how long nodes are down, and streams fail to start."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from posture.balancer.view import ClusterView
from posture.kube.objects import Node, Pod, ScaledJob

STEADY_SHARE = 0.5
"""A stream that failed to start has recovered when its pod has been Ready for this share of start_timeout."""


class Watch:
    """Counts how long nodes have been down and streams have failed to start. Times are seconds.

    Args:
        clock: a monotonic clock; times of nodes are measured by it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._contact_since: float | None = None
        self._down_since: dict[str, float] = {}
        self._failing_since_s: dict[tuple[str, str], float] = {}
        self._crashed: set[tuple[str, str]] = set()

    def lose_contact(self) -> None:
        """Note that the API server did not answer: the nodes' state in the meantime is unknown (R14)."""
        self._contact_since = None
        self._down_since.clear()

    @property
    def contact_s(self) -> float:
        """Return for how long the contact has been unbroken."""
        return 0.0 if self._contact_since is None else self._clock() - self._contact_since

    def see_nodes(self, nodes: Mapping[str, Node], hosts: Iterable[str] = ()) -> None:
        """Take a list of the nodes; ``hosts`` are those which should be there."""
        now = self._clock()
        if self._contact_since is None:
            self._contact_since = now
        expected = {*nodes, *hosts, *self._down_since}
        down = {host for host in expected if host not in nodes or not nodes[host].ready}
        self._down_since = {host: self._down_since.get(host, now) for host in down}

    def down_s(self, host: str) -> float:
        """Return for how long a node has been NotReady or gone, 0 if it is up."""
        since = self._down_since.get(host)
        return 0.0 if since is None else self._clock() - since

    def see_streams(self, view: ClusterView, start_timeout_s: float) -> None:
        """Note which streams fail to start where they are (R13)."""
        failing = {}
        for stream, scaled_job in view.scaled_jobs.items():
            key = (stream, view.place(scaled_job) or "")
            troubled = _troubled_pods(view, scaled_job, start_timeout_s)
            # only crashes add up: a slow image pull says nothing about later failures
            before_s = self._failing_since_s.get(key) if key in self._crashed else None
            if any(pod.phase == "Failed" for pod in troubled):
                self._crashed.add(key)
            crashed = key in self._crashed
            since_s = _failing_since_s(view, scaled_job, troubled, before_s, crashed, start_timeout_s)
            if since_s is not None:
                failing[key] = since_s
        self._failing_since_s = failing
        self._crashed &= set(failing)

    def failing_s(self, view: ClusterView, scaled_job: ScaledJob) -> float | None:
        """Return how long a stream has failed to start, None if it doesn't."""
        since_s = self._failing_since_s.get((scaled_job.stream, view.place(scaled_job) or ""))
        return None if since_s is None else max(0.0, view.taken_s - since_s)


def _troubled_pods(view: ClusterView, scaled_job: ScaledJob, start_timeout_s: float) -> list[Pod]:
    """Return a stream's pods that don't start, or have ended a short time ago."""
    return [
        pod
        for pod in view.current_pods(scaled_job)
        # a single crash longer ago is not a failure to start
        if pod.trouble and (pod.phase != "Failed" or view.taken_s - pod.trouble_since_s < start_timeout_s)
    ]


def _failing_since_s(
    view: ClusterView,
    scaled_job: ScaledJob,
    troubled: Sequence[Pod],
    before_s: float | None,
    crashed: bool,
    start_timeout_s: float,
) -> float | None:
    """Return since when a stream fails to start; a crash is forgotten when a pod has been Ready for long enough."""
    ready_s = [
        view.taken_s - pod.ready_since_s for pod in view.current_pods(scaled_job) if pod.ready_since_s is not None
    ]
    # a pod that was only slow, for instance to pull its image, has started now
    steady_s = start_timeout_s * STEADY_SHARE if crashed else -math.inf
    if ready_s and max(ready_s) >= steady_s:
        return None
    troubles = [pod.trouble_since_s for pod in troubled]
    place = view.place(scaled_job)
    waits = any(not job.finished and view.is_here(job, place) for job in view.jobs.get(scaled_job.name, ()))
    if before_s is not None and (troubles or waits):
        # between two crashes there may be no pod for a moment
        return min([before_s, *troubles])
    return min(troubles, default=None)
