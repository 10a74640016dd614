"""gpu_balancer.py as a real process on the real control plane, with a real Prometheus: what its tests share."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from control_plane import Cluster, ScaledJob
from driven_exporter import METRIC, GpuExporter, instance_of
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, Pod
from lightkube.types import PatchType
from nodes import Kubelets, SimulatedNode
from scaled_jobs import is_finished, is_ready, labels_of_jobs, name_of, ready_on, scaled_job
from servers import PrometheusServer
from stub_scaler import StubScaler

from posture.system.children import BOUND

ROOT = Path(__file__).resolve().parent.parent.parent
MOVE = "posture-farm/move"
HISTORY = "posture-farm/history"
SCRAPE_S = 0.5
NODES = [f"node-{number}" for number in range(1, 9)]
WAIT_S = 180.0
"""A busy machine is slow; nothing waits this long on an idle one."""
LAST, LAST_CHARACTERS = 2, 2000
"""Balancers whose last words are told with an error, and how many of them."""

QUICK: Mapping[str, Any] = {
    "window_s": 1.0,
    "sample_interval_s": 0.5,
    "interval_s": 0.5,
    "warm_up_s": 0.0,
    "lease_s": 30.0,
    "cooldown_base_s": 0.0,
    "cooldown_cap_s": 0.0,
}
"""Timers of a balancer that has no time."""


class Usage:
    """A Prometheus that scrapes eight nodes, which one test after the other has."""

    def __init__(self, folder: Path) -> None:
        self.exporter = GpuExporter()
        targets = self.exporter.targets(*NODES)
        self.server = PrometheusServer(folder, targets, scrape_interval_s=SCRAPE_S)

    def stop(self) -> None:
        self.server.stop()
        self.exporter.close()


class Balancer:
    """One gpu_balancer.py."""

    def __init__(self, folder: Path, kubeconfig: Path, settings: Mapping[str, Any], *flags: str) -> None:
        self.config = folder / "cluster.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.log = folder / "balancer.log"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("POSTURE_") and name != "GPU_THRESHOLD"
        }
        command = [sys.executable, str(ROOT / "gpu_balancer.py"), "--config", str(self.config), *flags]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                # it ends with us; a function before exec is not safe beside the threads of gRPC
                [sys.executable, "-I", "-S", "-c", BOUND, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, "KUBECONFIG": str(kubeconfig)},
            )

    def said(self) -> str:
        return self.log.read_text()

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """Wait for its end; return its exit status."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.said()}") from None

    def wait_for(self, *texts: str, count: int = 1) -> str:
        """Wait until it has said all these texts so often; return all that it has said."""
        tail = threading.Event()
        for _ in range(int(WAIT_S / 0.1)):
            said = self.said()
            if all(said.count(text) >= count for text in texts):
                return said
            assert self.process.poll() is None, f"it has ended with {self.process.returncode}:\n{said}"
            tail.wait(0.1)  # a log has no event
        raise AssertionError(f"it has not said {texts}:\n{self.said()}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()


class Farm:
    """A farm of one test: nodes with a usage, streams, and balancers that end with the test."""

    def __init__(
        self, cluster: Cluster, namespace: str, nodes: Kubelets, scaler: StubScaler, usage: Usage, folder: Path
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.usage = usage
        self.scaler = scaler
        self._kubelets = nodes
        self._folder = folder
        self._nodes: list[str] = []
        self._balancers: list[Balancer] = []
        self._unsettled = False

    def add_nodes(self, *usage: float, **options: Any) -> list[SimulatedNode]:
        """Add a node for each usage."""
        names = NODES[len(self._nodes) : len(self._nodes) + len(usage)]
        for name, value in zip(names, usage, strict=True):
            self.usage.exporter.set(name, value)
        self._nodes += names
        for name in names:
            # what the test before has left behind is older than these
            self.usage.exporter.wait_for_scrapes(name)
        return [self._kubelets.add(name, **options) for name in names]

    def set_usage(self, node: SimulatedNode, value: float | str) -> None:
        self.usage.exporter.set(node.name, value)

    def add_stream(self, stream: str, node: SimulatedNode, *, wait: bool = True, **changes: Any) -> None:
        """Create a stream's ScaledJob, and wait until its pod is Ready on the node."""
        manifest = scaled_job(stream, node.name, self.scaler.address)
        manifest["metadata"].update(changes)
        self.cluster.create(self.namespace, manifest)
        if wait:
            self.until_on(stream, node)
            self._unsettled = True

    def until_on(self, stream: str, node: SimulatedNode, timeout_s: float = WAIT_S) -> list[Any]:
        """Wait until a pod of the stream is Ready on the node."""
        return self.cluster.until(
            Pod, self.namespace, ready_on(node.name), labels_of_jobs(stream), timeout_s=timeout_s
        )

    def until_ready(self, stream: str, node: SimulatedNode, timeout_s: float = WAIT_S) -> None:
        """Wait until a pod of the stream is Ready on the node, whatever other pods there are."""

        def ready(pods: Sequence[Any]) -> bool:
            return any(pod.spec.nodeName == node.name and is_ready(pod) for pod in pods)

        self.cluster.until(Pod, self.namespace, ready, labels_of_jobs(stream), timeout_s)

    def until_ready_elsewhere(self, stream: str, node: SimulatedNode, timeout_s: float = WAIT_S) -> None:
        """Wait until a pod of the stream is Ready on another node."""

        def ready(pods: Sequence[Any]) -> bool:
            return any(pod.spec.nodeName != node.name and is_ready(pod) for pod in pods)

        self.cluster.until(Pod, self.namespace, ready, labels_of_jobs(stream), timeout_s)

    def until_one_pod(self, stream: str, timeout_s: float = WAIT_S) -> None:
        """Wait until the stream has one pod, and it is Ready."""
        self.cluster.until(
            Pod,
            self.namespace,
            lambda pods: [is_ready(pod) for pod in pods] == [True],
            labels_of_jobs(stream),
            timeout_s,
        )

    def until_active(self, stream: str, timeout_s: float = WAIT_S) -> None:
        """Wait until KEDA has polled for the stream just now."""
        since = datetime.datetime.now(datetime.timezone.utc)
        self.cluster.until(
            ScaledJob,
            self.namespace,
            lambda found: any(
                one.metadata.name == name_of(stream) and (last_active(one) or since) > since for one in found
            ),
            timeout_s=timeout_s,
        )

    def hosts(self, stream: str) -> set[str]:
        """Return the nodes that have a Ready pod of the stream."""
        return {pod.spec.nodeName for pod in self.pods(stream) if is_ready(pod)}

    def until_moved(self, stream: str, node: SimulatedNode, timeout_s: float = WAIT_S) -> None:
        """Wait for a finished move: one unfinished Job, on that node, Ready; no other pod; no open move."""
        try:
            self._until_moved(stream, node, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._last_words()}") from None

    def _last_words(self) -> str:
        """What the balancers that were started last have said, and whether they run."""
        told = []
        for number, balancer in list(enumerate(self._balancers))[-LAST:]:
            status = balancer.process.poll()
            state = "runs" if status is None else f"has ended with {status}"
            told.append(f"balancer {number} {state}:\n{balancer.said()[-LAST_CHARACTERS:]}")
        return "\n".join(told)

    def _until_moved(self, stream: str, node: SimulatedNode, timeout_s: float) -> None:
        self.until_on(stream, node, timeout_s)
        self.cluster.until(
            Job,
            self.namespace,
            lambda jobs: sum(not is_finished(job) for job in jobs) == 1,
            labels_of_jobs(stream),
            timeout_s,
        )
        self.cluster.until(
            Pod,
            self.namespace,
            lambda pods: [pod.spec.nodeName for pod in pods] == [node.name],
            labels_of_jobs(stream),
            timeout_s,
        )
        self.cluster.until(
            ScaledJob,
            self.namespace,
            lambda found: (
                MOVE not in annotations(next(one for one in found if one.metadata.name == name_of(stream)))
            ),
            timeout_s=timeout_s,
        )

    def scaled_job(self, stream: str) -> Any:
        return self.cluster.client.get(ScaledJob, name_of(stream), namespace=self.namespace)

    def pods(self, stream: str) -> list[Any]:
        return list(self.cluster.client.list(Pod, namespace=self.namespace, labels=labels_of_jobs(stream)))

    def jobs(self, stream: str) -> list[Any]:
        return list(self.cluster.client.list(Job, namespace=self.namespace, labels=labels_of_jobs(stream)))

    def job_uids(self, *streams: str) -> set[str]:
        return {job.metadata.uid for stream in streams for job in self.jobs(stream)}

    def edit(self, stream: str, operations: list[dict[str, Any]]) -> None:
        """Change a stream's ScaledJob as a person would."""
        self.cluster.client.patch(
            ScaledJob, name_of(stream), operations, namespace=self.namespace, patch_type=PatchType.JSON
        )

    @contextlib.contextmanager
    def downtime(self, stream: str) -> Iterator[Downtime]:
        """Measure for how long the stream has no Ready pod, all in all."""
        measured = Downtime(self.cluster, self.namespace, stream)
        try:
            yield measured
        finally:
            measured.stop()

    def events(self, stream: str) -> list[tuple[str, str]]:
        """Reason and message of the Events on a stream's ScaledJob."""
        found = self.cluster.client.list(Event, namespace=self.namespace)
        ours = [one for one in found if one.involvedObject.name == name_of(stream)]
        return [(one.reason, one.message) for one in ours if one.source.component == "posture-balancer"]

    def balancer(
        self, *flags: str, kubeconfig: Path | None = None, settings: Mapping[str, Any] | None = None, **timers: Any
    ) -> Balancer:
        """Start a balancer of this farm."""
        if "--once" in flags and self._unsettled:
            # its one window must not begin within a scrape of a pod's becoming Ready (R5), and the API server's
            # times are whole seconds
            self.usage.exporter.wait_for_scrapes(self._nodes[0], int(2 / SCRAPE_S) + 1)
            self._unsettled = False
        folder = self._folder / f"balancer-{len(self._balancers)}"
        folder.mkdir()
        wanted = {
            "GPU_QUERIES": {name: {"instance": instance_of(name), "metric": METRIC} for name in self._nodes},
            # one scrape is due in a window, and it may be late: all of them are, on a busy machine
            "prometheus": {"url": self.usage.server.url, "scrape_interval_s": QUICK["window_s"], "max_age_s": 10},
            "kubernetes": {"namespace": self.namespace, "timeout_s": 30},
            "balancer": {**QUICK, "last_node_file": str(folder / "last_node.txt"), **timers},
            **(settings or {}),
        }
        started = Balancer(folder, kubeconfig or self.cluster.kubeconfig, wanted, *flags)
        self._balancers.append(started)
        return started

    def close(self) -> None:
        for balancer in self._balancers:
            if balancer.process.poll() is None:
                balancer.kill()


class Downtime:
    """Samples, ten times a second, whether a stream has a Ready pod."""

    def __init__(self, cluster: Cluster, namespace: str, stream: str) -> None:
        self.seconds = 0.0
        self._client = cluster.client_for(cluster.kubeconfig)
        self._pods = {"namespace": namespace, "labels": labels_of_jobs(stream)}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure)
        self._thread.start()

    def _measure(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(0.1):
            up = any(is_ready(pod) for pod in self._client.list(Pod, **self._pods))
            now = time.monotonic()
            self.seconds += 0.0 if up else now - before
            before = now

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()


def last_active(scaled_job: Any) -> datetime.datetime | None:
    stamp = (scaled_job.status or {}).get("lastActiveTime")
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")) if stamp else None


def annotations(scaled_job: Any) -> dict[str, str]:
    return dict(scaled_job.metadata.annotations or {})


def running_usage(folder: Path) -> Iterator[Usage]:
    usage = Usage(folder)
    try:
        usage.server.start()
        yield usage
    finally:
        usage.stop()
