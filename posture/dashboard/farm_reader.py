"""Two threads that read, every few seconds, where streams run: one the Kubernetes API, one Prometheus."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from posture.dashboard import farm
from posture.dashboard.farm import Cluster, Usage, Veto
from posture.dashboard.live import Live
from posture.dashboard.programs import FIGURES, Program, programs
from posture.dashboard.sources import KUBERNETES, PROMETHEUS, State
from posture.errors import UserError
from posture.kube import client, kinds, labels
from posture.kube.client import KubeClient
from posture.kube.errors import KubeError
from posture.kube.objects import DEFAULT_POLLING_S, Node, Pod, ScaledJob
from posture.runtime import Stop
from posture.settings.table import Settings
from posture.usage.prometheus import Prometheus, PrometheusUnavailableError

log = logging.getLogger(__name__)

EVERY_S = 5.0
NO_FARM = "GPU_QUERIES is empty, and there is no Prometheus at its default address"
VETOES = "max by (reason, node, stream) (posture_balancer_veto)"
DOUBTS = (
    "max by (node, signal) (posture_balancer_signal_looks_like_ratio) or "
    "max by (node, measured, used) (posture_balancer_signal_disagrees)"
)
DEFAULT_URL = Settings().prometheus.url


class FarmReader:
    """What the two sources last said.

    Args:
        settings: both sources, and the threshold.
        live: gets told whether they are there.

    Raises:
        UserError: a file of settings can't be read.
    """

    def __init__(self, settings: Settings, live: Live) -> None:
        self._settings, self._live = settings, live
        self._prometheus = Prometheus(
            settings.prometheus, settings.gpu_queries, context=settings.kubernetes.context
        )
        self._cluster, self._usage, self._vetoes = Cluster(), dict[str, Usage](), list[Veto]()
        self._programs: list[Program] = []
        self._stops: list[Stop] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start reading."""
        for name, read in (("kubernetes", self._read_cluster), ("prometheus", self._read_prometheus)):
            stop = Stop()
            self._stops.append(stop)
            self._threads.append(threading.Thread(target=_repeat, args=(read, stop), name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads; one that waits for an answer ends with the process."""
        for stop in self._stops:
            stop.request()
        for thread in self._threads:
            thread.join(1.0)

    def as_json(self) -> dict[str, Any]:
        """Return the farm as the page shows it."""
        with self._live.hold():
            nodes = {
                pi_id: stream.analyzer.node or stream.analyzer.host
                for pi_id, stream in self._live.streams.items()
                if stream.analyzer is not None and stream.analyzer.online
            }
        threshold = self._settings.balancer.threshold
        return farm.as_json(self._cluster, self._usage, self._vetoes, threshold, nodes, self._programs)

    def _read_cluster(self, stop: Stop) -> None:
        try:
            connected = client.connect(self._settings.kubernetes, wait=_wait(stop))
        except UserError as error:
            self._cluster = Cluster()
            self._live.tell_source(KUBERNETES, State.ABSENT, str(error))
            return
        with connected as cluster:
            try:
                self._cluster = _cluster(cluster, self._settings.kubernetes.farm)
            except KubeError as error:
                if self._live.tell_source(KUBERNETES, State.DOWN, str(error)):
                    log.warning("%s", error)
            else:
                self._live.tell_source(KUBERNETES, State.UP)

    def _read_prometheus(self, stop: Stop) -> None:
        del stop
        try:
            self._vetoes = farm.vetoes(self._prometheus.vector(VETOES))
            doubts = farm.doubts(self._prometheus.vector(DOUBTS))
            polls = [one.polling_interval_s for one in self._cluster.scaled_jobs]
            self._programs = programs(self._prometheus.vector(FIGURES), max(polls, default=DEFAULT_POLLING_S))
        except PrometheusUnavailableError as error:
            self._usage, self._vetoes, self._programs = {}, [], []
            if not self._settings.gpu_queries and self._settings.prometheus.url == DEFAULT_URL:
                self._live.tell_source(PROMETHEUS, State.ABSENT, NO_FARM)
            elif self._live.tell_source(PROMETHEUS, State.DOWN, str(error)):
                log.warning("%s", error)
            return
        self._usage = farm.usages(self._prometheus.sample(), doubts)
        self._live.tell_source(PROMETHEUS, State.UP)


def _cluster(cluster: KubeClient, name: str) -> Cluster:
    """Return what the API server tells."""
    nodes = [Node.read(body) for body in cluster.list(kinds.NODE)]
    return Cluster(
        nodes=[node for node in nodes if node.name],
        scaled_jobs=[ScaledJob.read(body) for body in cluster.list(kinds.SCALED_JOB, labels.of_streams(name))],
        pods=[Pod.read(body) for body in cluster.list(kinds.POD, labels.of_streams(name))],
        # the balancer's own: it labels them with the stream
        events=cluster.list(kinds.EVENT, {labels.STREAM: None}),
    )


def _repeat(read: Callable[[Stop], None], stop: Stop) -> None:
    while not stop.requested:
        read(stop)
        stop.wait(EVERY_S)


def _wait(stop: Stop) -> Callable[[float], None]:
    def wait(seconds: float) -> None:
        stop.wait(seconds)
        if stop.requested:
            raise KubeError("asked to end")

    return wait
