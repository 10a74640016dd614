"""The planner's input, made from the cluster, the window's averages and what is remembered."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from posture.balancer.open_move import open_move_text
from posture.balancer.refusals import Refusals
from posture.balancer.view import ClusterView
from posture.balancer.watch import Watch
from posture.kube.affinity import allows, with_node
from posture.kube.objects import Node, Pod, ScaledJob
from posture.kube.resources import free_of, requests_of
from posture.kube.taints import taint_texts, tolerates
from posture.natural_order import natural
from posture.planning import model
from posture.planning.ledger import Ledger
from posture.planning.model import Phase, Snapshot
from posture.settings.table import NodeQuery
from posture.usage.readings import UsageUnknownError
from posture.usage.window import Average


def comparable(
    averages: Mapping[str, Average | UsageUnknownError], queries: Mapping[str, NodeQuery]
) -> dict[str, Average | UsageUnknownError]:
    """Return the averages with signals that mean the same on each node.

    Where every node is read by one signal, these are of one kind, whatever each class of node calls it: a load that
    was seen in one of them is known in the others. Where one node is read by several, names tell them apart.

    Args:
        averages: node -> its window's average, or why it has none.
        queries: node -> where its usage is read.
    """
    if any(len(query.signals) > 1 for query in queries.values()):
        return dict(averages)
    return {
        node: replace(found, signals={model.ONE_SIGNAL: found.value}) if isinstance(found, Average) else found
        for node, found in averages.items()
    }


class SnapshotMaker:
    """Makes what the planner plans with.

    Args:
        ledger: what is remembered of nodes and streams.
        watch: what was seen over time.
        refusals: the streams whose change the API server refuses.
    """

    def __init__(self, ledger: Ledger, watch: Watch, refusals: Refusals | None = None) -> None:
        self._ledger = ledger
        self._watch = watch
        self._refusals = refusals or Refusals()
        self._hosts: dict[str, str] = {}
        """Node -> its Node object when it last carried the label."""

    def make(
        self,
        view: ClusterView,
        averages: Mapping[str, Average | UsageUnknownError],
        unsettled: frozenset[str],
        arriving: Sequence[model.Arrival] = (),
    ) -> Snapshot:
        """Return what one loop plans with.

        Args:
            view: the cluster.
            averages: node -> its window's average, or why it has none.
            unsettled: streams whose load isn't in the window yet.
            arriving: streams of other farms that are on their way.
        """
        places = {stream: view.place(scaled_job) for stream, scaled_job in view.scaled_jobs.items()}
        placed = {stream: node for stream, node in places.items() if node is not None}
        hosts = _hosts_by_name(view.nodes)
        self._hosts |= _hosts_of_pods(view, placed) | hosts
        names = {*hosts, *placed.values()}
        demands = _Demands({name: view.nodes[host] for name, host in hosts.items()})
        used = _used_by_host(view)
        nodes = [self._node(name, hosts.get(name), view, averages, used) for name in sorted(names, key=natural)]
        refused = view.without_pods()
        jobs = [
            self._job(view.scaled_jobs[one], node, view, demands, unsettled, one in refused)
            for one, node in placed.items()
        ]
        return Snapshot(
            nodes=nodes,
            jobs=jobs,
            now_s=view.taken_s,
            contact_s=self._watch.contact_s,
            unmanaged=tuple(stream for stream in places if stream not in placed),
            without_pods=refused,
            arriving=arriving,
        )

    def _node(
        self,
        name: str,
        host: str | None,
        view: ClusterView,
        averages: Mapping[str, Average | UsageUnknownError],
        used: Mapping[str, Mapping[str, float]],
    ) -> model.NodeState:
        found = averages.get(name)
        signals: model.Points = {}
        if isinstance(found, Average):
            usage, why, signals = found.value, "", found.signals
        else:
            usage, why = None, "it is not in GPU_QUERIES" if found is None else found.reason
        history = self._ledger.node(name)
        if host is None:
            # the node may be up and only have lost its label
            bare = view.nodes.get(self._hosts.get(name, name))
            return model.NodeState(
                name=name,
                usage=usage,
                why_unknown=why,
                signals=signals,
                ready=bare is not None and bare.ready,
                gone=bare is None,
                down_s=self._watch.down_s(name if bare is None else bare.host),
                labelled=False,
                host="" if bare is None else bare.host,
                history=history,
            )
        node = view.nodes[host]
        return model.NodeState(
            name=name,
            usage=usage,
            why_unknown=why,
            signals=signals,
            speed=self._ledger.speed(name),
            speeds={signal: self._ledger.speed(name, signal) for signal in signals},
            ready=node.ready,
            down_s=self._watch.down_s(host),
            cordoned=node.cordoned,
            taints=frozenset(taint_texts(node)),
            free=free_of(node, used.get(host, {})),
            history=history,
        )

    def _job(
        self,
        scaled_job: ScaledJob,
        node: str,
        view: ClusterView,
        demands: _Demands,
        unsettled: frozenset[str],
        refused: bool,
    ) -> model.StreamState:
        pods = view.current_pods(scaled_job)
        # to be refused a pod is no node's fault: elsewhere it would be refused, too
        failing_s = None if refused else self._watch.failing_s(view, scaled_job)
        return model.StreamState(
            stream=scaled_job.stream,
            node=node,
            phase=_phase(pods, failing_s),
            failing_s=failing_s,
            pulling=any(pod.pulling for pod in pods),
            pinned=scaled_job.pinned,
            moving=open_move_text(scaled_job) is not None or scaled_job.stream in unsettled,
            tolerates=demands.tolerated(scaled_job.pod_spec),
            requests=requests_of(scaled_job.pod_spec),
            barred=demands.barred(scaled_job.pod_spec),
            refused_s=self._refusals.left_s(scaled_job.stream),
            keda=view.keda(scaled_job),
            history=self._ledger.stream(scaled_job.stream),
        )


class _Demands:
    """What pods demand of nodes, worked out once for each distinct demand."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._taints = sorted({taint for node in nodes.values() for taint in taint_texts(node)})
        self._known: dict[str, frozenset[str]] = {}

    def tolerated(self, pod_spec: Mapping[str, Any]) -> frozenset[str]:
        """Return those of all nodes' taints that the pod tolerates."""
        tolerations = pod_spec.get("tolerations") or []
        return self._once(tolerations, lambda: (taint for taint in self._taints if tolerates(tolerations, taint)))

    def barred(self, pod_spec: Mapping[str, Any]) -> frozenset[str]:
        """Return the nodes that its nodeSelector, or its affinity without the balancer's own term, rules out."""
        affinity, selector = with_node(pod_spec.get("affinity"), ""), pod_spec.get("nodeSelector")
        nodes = self._nodes.items()
        return self._once(
            [affinity, selector],
            lambda: (name for name, node in nodes if not allows(affinity, selector, dict(node.labels), node.host)),
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


def _hosts_of_pods(view: ClusterView, placed: Mapping[str, str]) -> dict[str, str]:
    """Return node -> the Node object that its streams' pods are on, which may have lost its label by now."""
    return {
        node: pod.host
        for stream, node in placed.items()
        for pod in view.current_pods(view.scaled_jobs[stream])
        if pod.host in view.nodes
    }


def _phase(pods: Sequence[Pod], failing_s: float | None) -> Phase:
    alive = [pod for pod in pods if pod.alive]
    if any(pod.ready_since_s is not None for pod in alive) and failing_s is None:
        return Phase.RUNNING
    if any(pod.host for pod in alive):
        return Phase.STARTING
    return Phase.PENDING if alive else Phase.ABSENT


def _used_by_host(view: ClusterView) -> dict[str, dict[str, float]]:
    """Return what our own pods take of each node; other pods are not listed."""
    used: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for scaled_job in view.scaled_jobs.values():
        for pod in view.pods.get(scaled_job.name, ()):
            if pod.host and pod.alive:
                for name, amount in requests_of(scaled_job.pod_spec).items():
                    used[pod.host][name] += amount
    return used
