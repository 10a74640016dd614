"""Where streams run, as the Kubernetes API and Prometheus tell: nodes, usage, moves, vetoes, Events. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from posture.dashboard.programs import Program
from posture.kube.affinity import NODE_LABEL
from posture.kube.annotations import MOVES
from posture.kube.client import Object
from posture.kube.labels import STREAM
from posture.kube.objects import Node, Pod, ScaledJob, seconds
from posture.natural_order import natural
from posture.system.untrusted import shown
from posture.usage.readings import Reading, UsageUnknownError

MOST_EVENTS = 100
MOST_MOVES = 50
LONGEST = 400


@dataclass(frozen=True)
class Usage:
    """How busy a node is.

    Attributes:
        percent: of its scarcest resource; None: unknown.
        signals: signal -> percent.
        why: it is unknown.
        doubts: why it may not be what it seems.
    """

    percent: float | None
    signals: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    doubts: Sequence[str] = ()


@dataclass(frozen=True)
class Cluster:
    """What the API server tells of a farm."""

    nodes: Sequence[Node] = ()
    scaled_jobs: Sequence[ScaledJob] = ()
    pods: Sequence[Pod] = ()
    events: Sequence[Object] = ()


@dataclass(frozen=True)
class Veto:
    """Why the balancer did not move something in its last loop."""

    reason: str
    node: str
    stream: str


def usages(
    sampled: Mapping[str, Reading | UsageUnknownError], doubts: Mapping[str, Sequence[str]]
) -> dict[str, Usage]:
    """Return each node's usage.

    Args:
        sampled: node -> its usage, or why it is unknown.
        doubts: node -> what the balancer doubts about it.
    """
    return {
        node: Usage(reading.value, reading.signals, doubts=doubts.get(node, ()))
        if isinstance(reading, Reading)
        else Usage(None, why=shown(reading.reason, LONGEST))
        for node, reading in sampled.items()
    }


def doubts(series: Iterable[tuple[Mapping[str, str], float]]) -> dict[str, list[str]]:
    """Return node -> what is doubtful about its signals, of the balancer's metrics about that."""
    found: dict[str, list[str]] = {}
    for labels, value in series:
        if not value:
            continue
        if "signal" in labels:
            told = f"{labels['signal']} looks like a ratio from 0 to 1"
        else:
            told = f"its {labels.get('measured', '')} is measured, its streams run on the {labels.get('used', '')}"
        found.setdefault(labels.get("node", ""), []).append(shown(told, LONGEST))
    return found


def vetoes(series: Iterable[tuple[Mapping[str, str], float]]) -> list[Veto]:
    """Return the vetoes of ``posture_balancer_veto``."""
    return [
        Veto(labels.get("reason", ""), labels.get("node", ""), labels.get("stream", ""))
        for labels, value in series
        if value
    ]


def as_json(
    cluster: Cluster,
    usage: Mapping[str, Usage],
    refused: Sequence[Veto],
    threshold: float,
    live_nodes: Mapping[str, str],
    running: Sequence[Program] = (),
) -> dict[str, Any]:
    """Return the farm as the page shows it.

    Args:
        cluster: as the API server tells it; empty where there is none.
        usage: node -> how busy it is.
        refused: the balancer's vetoes.
        threshold: percent; a node above it is overloaded.
        live_nodes: stream -> the node that its analyzer names; used where there is no API server.
        running: the programs that run it.
    """
    hosts = {node.host: node for node in cluster.nodes}
    pods = _newest_pods(cluster.pods)
    ends = _last_ends(cluster.pods)
    streams = [_stream(one, pods.get(one.name), ends.get(one.name), hosts) for one in cluster.scaled_jobs]
    if not cluster.scaled_jobs:
        told = {"state": "", "why": "", "last_end": None}
        streams = [{"id": name, "node": node, **told} for name, node in live_nodes.items() if node]
    known: dict[str, Node | None] = {node.name: node for node in cluster.nodes}
    names = sorted({*known, *usage, *(one["node"] for one in streams if one["node"])}, key=natural)
    return {
        "threshold": threshold,
        "programs": [asdict(program) for program in running],
        "nodes": [_node(name, known.get(name), usage.get(name), streams, alone=not known) for name in names],
        "unplaced": [one for one in streams if not one["node"]],
        "moves": _moves(cluster.scaled_jobs),
        "vetoes": [{"reason": one.reason, "node": one.node, "stream": one.stream} for one in refused],
        "events": _events(cluster.events),
    }


def _node(
    name: str, node: Node | None, usage: Usage | None, streams: Sequence[Mapping[str, Any]], *, alone: bool
) -> dict[str, Any]:
    here = sorted((one for one in streams if one["node"] == name), key=lambda one: natural(one["id"]))
    return {
        "name": name,
        **_state(name, node, alone=alone),
        "usage": None if usage is None else usage.percent,
        "signals": {} if usage is None else dict(usage.signals),
        "why": "" if usage is None else usage.why,
        "doubts": [] if usage is None else list(usage.doubts),
        "streams": here,
    }


def _state(name: str, node: Node | None, *, alone: bool) -> dict[str, str]:
    """Return a node's state, and what that means where a word does not say it; alone: no node is known at all."""
    if node is not None:
        state = "NotReady" if not node.ready else "cordoned" if node.cordoned else "Ready"
        return {"state": state, "meaning": ""}
    if alone:
        return {"state": "", "meaning": ""}
    return {"state": "missing", "meaning": f"No node of the cluster has the label {NODE_LABEL}={name}."}


def _newest_pods(pods: Iterable[Pod]) -> dict[str, Pod]:
    found: dict[str, Pod] = {}
    for pod in sorted(pods, key=lambda pod: (not pod.deleting, pod.created_s)):
        found[pod.scaled_job] = pod
    return found


def _last_ends(pods: Iterable[Pod]) -> dict[str, Pod]:
    """Return of each ScaledJob the pod that was the last to fail, as far as Kubernetes keeps those."""
    failed = sorted((pod for pod in pods if pod.ended), key=lambda pod: pod.trouble_since_s)
    return {pod.scaled_job: pod for pod in failed}


def _stream(
    scaled_job: ScaledJob, pod: Pod | None, failed: Pod | None, hosts: Mapping[str, Node]
) -> dict[str, Any]:
    host = hosts.get(pod.host) if pod is not None else None
    if scaled_job.paused:
        state, why = "paused", ""
    elif pod is None:
        state, why = "no pod", scaled_job.complaint
    elif pod.ready_since_s is not None:
        state, why = "runs", ""
    elif host is not None and not host.ready:
        state, why = "not heard of", "its node is NotReady; it may run all the same"
    else:
        state, why = pod.trouble or "starting", pod.why
    node = (host.name if host is not None else scaled_job.node) or ""
    last_end = {"at": failed.trouble_since_s, "why": shown(failed.ended, LONGEST)} if failed else None
    told = {"state": state, "why": shown(why, LONGEST), "pinned": scaled_job.pinned, "last_end": last_end}
    return {"id": scaled_job.stream, "node": node, **told}


def _moves(scaled_jobs: Iterable[ScaledJob]) -> list[dict[str, Any]]:
    """Return the last moves of all streams, the newest first."""
    found = [
        (at, {"stream": one.stream, "at": at, "ready_at": _seconds(move.get("ready_at")), **_texts(move)})
        for one in scaled_jobs
        for move in _list((one.annotations or {}).get(MOVES, ""))
        if (at := _seconds(move.get("at")))
    ]
    return [move for _, move in sorted(found, key=lambda one: -one[0])[:MOST_MOVES]]


def _texts(move: Mapping[str, Any]) -> dict[str, str]:
    return {key: shown(move.get(key, ""), LONGEST) for key in ("kind", "from", "to", "why")}


def _list(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _events(events: Iterable[Object]) -> list[dict[str, Any]]:
    """Return Events about ScaledJobs, Jobs and pods of streams, the newest first."""
    newest = sorted(events, key=lambda event: -_event_at(event))[:MOST_EVENTS]
    return [
        {
            "at": _event_at(event),
            "stream": ((event.get("metadata") or {}).get("labels") or {}).get(STREAM, ""),
            "about": shown((event.get("involvedObject") or {}).get("name", ""), LONGEST),
            "reason": shown(event.get("reason") or "", LONGEST),
            "message": shown(event.get("message") or "", LONGEST),
            "warning": event.get("type") == "Warning",
        }
        for event in newest
    ]


def _event_at(event: Object) -> float:
    created = (event.get("metadata") or {}).get("creationTimestamp")
    times = (event.get("lastTimestamp"), event.get("eventTime"), created)
    return next((at for at in map(_seconds, times) if at), 0.0)


def _seconds(text: Any) -> float | None:
    try:
        return seconds(text) if isinstance(text, str) else None
    except ValueError:
        return None
