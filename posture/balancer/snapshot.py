"""The cluster and the metrics become what the planner plans with.

A :class:`View` is one reading of the cluster: four paged lists, however many streams there are. What has to be
known over time (how long a node has been down, how long a stream has failed to start) is kept by :class:`Watch`.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightkube.utils.quantity import parse_quantity

from posture.balancer.moves import open_move_text
from posture.kube import kinds, labels
from posture.kube.affinity import allows, with_node
from posture.kube.client import KubeClient
from posture.kube.objects import Job, Node, Pod, ScaledJob
from posture.planning import model
from posture.planning.ledger import Ledger
from posture.planning.model import Keda, Phase, Snapshot
from posture.usage.readings import UsageUnknownError
from posture.usage.window import Average

log = logging.getLogger("posture.snapshot")

FEW = 20
"""So many streams are asked for by name; more are not worth the long selector."""

STEADY_SHARE = 0.5
"""A stream that failed to start has recovered when its pod has been Ready for this share of start_timeout."""


@dataclass(frozen=True)
class View:
    """One reading of the cluster."""

    taken_s: float
    """By the API server's clock, in seconds since 1970."""
    nodes: Mapping[str, Node]
    """Every Node object, by its name."""
    scaled_jobs: Mapping[str, ScaledJob]
    """The farm's ScaledJobs, by stream."""
    jobs: Mapping[str, Sequence[Job]]
    """The Jobs of each ScaledJob, by its name."""
    pods: Mapping[str, Sequence[Pod]]
    """The pods of each ScaledJob, by its name."""

    def current_pods(self, scaled_job: ScaledJob) -> list[Pod]:
        """Return the pods that are not going away, of Jobs that belong on the ScaledJob's node."""
        jobs = {job.uid for job in self.jobs.get(scaled_job.name, ()) if job.node == scaled_job.node}
        return [pod for pod in self.pods.get(scaled_job.name, ()) if pod.job_uid in jobs and not pod.deleting]

    def keda(self, scaled_job: ScaledJob) -> Keda:
        """Return what the ScaledJob says about KEDA (R15)."""
        last = scaled_job.last_active_s
        return Keda(
            ready=scaled_job.ready,
            active=scaled_job.active,
            paused=scaled_job.paused,
            last_active_age_s=math.inf if last is None else max(0.0, self.taken_s - last),
            polling_interval_s=scaled_job.polling_interval_s,
        )


def read_nodes(cluster: KubeClient) -> dict[str, Node]:
    """Return every node of the cluster by its name; a node without ``gpu-node`` has no name of ours.

    Raises:
        KubeError: the API server does not answer.
    """
    return {node.host: node for node in map(Node.read, cluster.list(kinds.NODE))}


def read_view(cluster: KubeClient, farm: str, streams: Collection[str] | None = None) -> View:
    """Read the cluster. Other farms' and other people's objects in the namespace are left out.

    Args:
        cluster: where from.
        farm: whose streams.
        streams: only these, where they are few.

    Raises:
        KubeError: the API server does not answer.
    """
    few = streams is not None and len(streams) <= FEW
    nodes = read_nodes(cluster)
    ours = labels.of_streams(farm) | ({labels.STREAM: streams} if few else {})
    scaled_jobs = _by_stream(map(ScaledJob.read, cluster.list(kinds.SCALED_JOB, ours)))
    names = {scaled_job.name for scaled_job in scaled_jobs.values()}
    if not names:
        # an empty list in a selector would ask for those with an empty name
        return View(cluster.now(), nodes, scaled_jobs, {}, {})
    owned = {labels.SCALED_JOB: names if few else None}
    # pods before Jobs: a pod whose Job is not in the list has outlived it, and is not younger than it
    pods = _by_owner(map(Pod.read, cluster.list(kinds.POD, owned)), names)
    jobs = _by_owner(map(Job.read, cluster.list(kinds.JOB, owned)), names)
    return View(cluster.now(), nodes, scaled_jobs, jobs, pods)


def _by_stream(scaled_jobs: Iterable[ScaledJob]) -> dict[str, ScaledJob]:
    found: dict[str, ScaledJob] = {}
    twice = set()
    for scaled_job in scaled_jobs:
        other = found.setdefault(scaled_job.stream, scaled_job)
        if other is not scaled_job:
            log.error("%s and %s have the same label %s; both stay", other.name, scaled_job.name, labels.STREAM)
            twice.add(scaled_job.stream)
    return {stream: scaled_job for stream, scaled_job in found.items() if stream not in twice}


def _by_owner(objects: Iterable[Any], names: set[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for one in objects:
        if one.scaled_job in names:
            found[one.scaled_job].append(one)
    return dict(found)


class Watch:
    """What has to be seen over time. Times are seconds.

    Args:
        clock: a clock that never jumps; the nodes' troubles are counted by it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._contact_since: float | None = None
        self._down_since: dict[str, float] = {}
        self._failing_since_s: dict[tuple[str, str], float] = {}
        self._crashed: set[tuple[str, str]] = set()

    def lose_contact(self) -> None:
        """Note that the API server did not answer: what nodes were like meanwhile is not known (R14)."""
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

    def see_streams(self, view: View, start_timeout_s: float) -> None:
        """Note which streams fail to start where they are (R13)."""
        failing = {}
        for stream, scaled_job in view.scaled_jobs.items():
            key = (stream, scaled_job.node or "")
            troubled = _troubled_pods(view, scaled_job, start_timeout_s)
            # only crashes add up: how long an image took says nothing about what comes after it
            before_s = self._failing_since_s.get(key) if key in self._crashed else None
            if any(pod.phase == "Failed" for pod in troubled):
                self._crashed.add(key)
            crashed = key in self._crashed
            since_s = _failing_since_s(view, scaled_job, troubled, before_s, crashed, start_timeout_s)
            if since_s is not None:
                failing[key] = since_s
        self._failing_since_s = failing
        self._crashed &= set(failing)

    def failing_s(self, view: View, scaled_job: ScaledJob) -> float | None:
        """Return how long a stream has failed to start, None if it doesn't."""
        since_s = self._failing_since_s.get((scaled_job.stream, scaled_job.node or ""))
        return None if since_s is None else max(0.0, view.taken_s - since_s)


def _troubled_pods(view: View, scaled_job: ScaledJob, start_timeout_s: float) -> list[Pod]:
    """Return a stream's pods that don't start, or have ended a short time ago."""
    return [
        pod
        for pod in view.current_pods(scaled_job)
        # one crash long ago is not a failure to start
        if pod.trouble and (pod.phase != "Failed" or view.taken_s - pod.trouble_since_s < start_timeout_s)
    ]


def _failing_since_s(
    view: View,
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
    # one that only took its time, as for its image, has started now
    steady_s = start_timeout_s * STEADY_SHARE if crashed else -math.inf
    if ready_s and max(ready_s) >= steady_s:
        return None
    troubles = [pod.trouble_since_s for pod in troubled]
    waits = any(not job.finished and job.node == scaled_job.node for job in view.jobs.get(scaled_job.name, ()))
    if before_s is not None and (troubles or waits):
        # between two crashes there is a moment without a pod
        return min([before_s, *troubles])
    return min(troubles, default=None)


class SnapshotMaker:
    """Makes the planner's input.

    Args:
        ledger: what is remembered of nodes and streams.
        watch: what was seen over time.
    """

    def __init__(self, ledger: Ledger, watch: Watch) -> None:
        self._ledger = ledger
        self._watch = watch

    def make(
        self, view: View, averages: Mapping[str, Average | UsageUnknownError], unsettled: frozenset[str]
    ) -> Snapshot:
        """Return what one loop plans with.

        Args:
            view: the cluster.
            averages: node -> its window's average, or why it has none.
            unsettled: streams whose load isn't in the window yet.
        """
        placed = [scaled_job for scaled_job in view.scaled_jobs.values() if scaled_job.node is not None]
        hosts = _hosts_by_name(view.nodes)
        names = {*hosts, *(str(scaled_job.node) for scaled_job in placed)}
        demands = _Demands({name: view.nodes[host] for name, host in hosts.items()})
        used = _used_by_host(view)
        nodes = [self._node(name, hosts.get(name), view, averages, used) for name in sorted(names)]
        jobs = [self._job(scaled_job, view, demands, unsettled) for scaled_job in placed]
        return Snapshot(nodes=nodes, jobs=jobs, now_s=view.taken_s, contact_s=self._watch.contact_s)

    def _node(
        self,
        name: str,
        host: str | None,
        view: View,
        averages: Mapping[str, Average | UsageUnknownError],
        used: Mapping[str, Mapping[str, float]],
    ) -> model.Node:
        found = averages.get(name)
        if isinstance(found, Average):
            usage, why = found.value, ""
        else:
            usage, why = None, "it is not in GPU_QUERIES" if found is None else found.reason
        history = self._ledger.node(name)
        if host is None:
            # the label may have been taken off a node that lives on
            lives = name in view.nodes and view.nodes[name].ready
            down_s = self._watch.down_s(name)
            return model.Node(name, usage, why, ready=lives, down_s=down_s, labelled=False, history=history)
        node = view.nodes[host]
        return model.Node(
            name=name,
            usage=usage,
            why_unknown=why,
            speed=self._ledger.speed(name),
            ready=node.ready,
            down_s=self._watch.down_s(host),
            cordoned=node.cordoned,
            taints=frozenset(taint_texts(node)),
            free=_free(node, used.get(host, {})),
            history=history,
        )

    def _job(self, scaled_job: ScaledJob, view: View, demands: _Demands, unsettled: frozenset[str]) -> model.Job:
        pods = view.current_pods(scaled_job)
        failing_s = self._watch.failing_s(view, scaled_job)
        return model.Job(
            stream=scaled_job.stream,
            node=str(scaled_job.node),
            phase=_phase(pods, failing_s),
            failing_s=failing_s,
            pulling=any(pod.pulling for pod in pods),
            pinned=scaled_job.pinned,
            moving=open_move_text(scaled_job) is not None or scaled_job.stream in unsettled,
            tolerates=demands.tolerated(scaled_job.pod_spec),
            requests=_requests(scaled_job.pod_spec),
            barred=demands.barred(scaled_job.pod_spec),
            keda=view.keda(scaled_job),
            history=self._ledger.stream(scaled_job.stream),
        )


class _Demands:
    """What pods ask of nodes; worked out once for all pods that ask the same."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._taints = sorted({taint for node in nodes.values() for taint in taint_texts(node)})
        self._known: dict[str, frozenset[str]] = {}

    def tolerated(self, pod_spec: Mapping[str, Any]) -> frozenset[str]:
        """Return those of all nodes' taints that the pod tolerates."""
        tolerations = pod_spec.get("tolerations") or []
        return self._once(tolerations, lambda: (taint for taint in self._taints if tolerates(tolerations, taint)))

    def barred(self, pod_spec: Mapping[str, Any]) -> frozenset[str]:
        """Return the nodes that its affinity or nodeSelector rules out, the requirement for one node apart."""
        affinity, selector = with_node(pod_spec.get("affinity"), ""), pod_spec.get("nodeSelector")
        nodes = self._nodes.items()
        return self._once(
            [affinity, selector],
            lambda: (name for name, node in nodes if not allows(affinity, selector, dict(node.labels))),
        )

    def _once(self, demand: Any, work_out: Callable[[], Iterable[str]]) -> frozenset[str]:
        key = json.dumps(demand, sort_keys=True)
        if key not in self._known:
            self._known[key] = frozenset(work_out())
        return self._known[key]


def _hosts_by_name(nodes: Mapping[str, Node]) -> dict[str, str]:
    """Return the Node object of each name in ``gpu-node``; of two that share a name, one that is Ready."""
    ranked = sorted((node for node in nodes.values() if node.name), key=lambda node: (node.ready, node.host))
    return {node.name: node.host for node in ranked}


def _phase(pods: Sequence[Pod], failing_s: float | None) -> Phase:
    alive = [pod for pod in pods if pod.phase in {"Pending", "Running"}]
    if any(pod.ready_since_s is not None for pod in alive) and failing_s is None:
        return Phase.RUNNING
    if any(pod.host for pod in alive):
        return Phase.STARTING
    return Phase.PENDING if alive else Phase.ABSENT


def taint_texts(node: Node) -> list[str]:
    """Return a node's taints as kubectl writes them."""
    return [f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in node.taints]


def tolerates(tolerations: Sequence[Mapping[str, Any]], taint: str) -> bool:
    """Say whether a pod may stay on a node with this taint for good."""
    key, _, rest = taint.partition("=")
    value, _, effect = rest.rpartition(":")
    return any(
        item.get("effect") in {None, "", effect}
        and item.get("tolerationSeconds") is None
        and (
            (item.get("operator") == "Exists" and item.get("key") in {None, "", key})
            or (
                item.get("operator") in {None, "Equal"}
                and item.get("key") == key
                and item.get("value", "") == value
            )
        )
        for item in tolerations
    )


def _requests(pod_spec: Mapping[str, Any]) -> dict[str, float]:
    """Return what the scheduler counts for a pod: requests, or limits where there are none."""
    total: dict[str, float] = defaultdict(float)
    for container in pod_spec.get("containers") or []:
        resources = container.get("resources") or {}
        for name, amount in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[name] += _quantity(str(amount))
    return dict(total)


def _used_by_host(view: View) -> dict[str, dict[str, float]]:
    """Return what our own pods take of each node; other people's pods are not ours to list."""
    used: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for scaled_job in view.scaled_jobs.values():
        for pod in view.pods.get(scaled_job.name, ()):
            if pod.host and pod.phase in {"Pending", "Running"}:
                for name, amount in _requests(scaled_job.pod_spec).items():
                    used[pod.host][name] += amount
    return used


def _free(node: Node, used: Mapping[str, float]) -> dict[str, float]:
    return {name: _quantity(amount) - used.get(name, 0.0) for name, amount in node.allocatable.items()}


@functools.lru_cache(maxsize=4096)
def _quantity(text: str) -> float:
    """Return a quantity of the API as a number; one that isn't readable asks for nothing."""
    try:
        return float(parse_quantity(text) or 0)
    except ValueError:
        return 0.0
