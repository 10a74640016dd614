"""A farm's objects as the balancer reads them: a ScaledJob, its Jobs and pods, and nodes."""

from __future__ import annotations

import dataclasses
from typing import Any

from posture.balancer.snapshot import SnapshotMaker
from posture.balancer.view import ClusterView
from posture.balancer.watch import Watch
from posture.kube import affinity
from posture.kube.objects import Job, Node, Pod, ScaledJob
from posture.planning import model
from posture.planning.ledger import Ledger
from posture.planning.model import Rules
from posture.usage.window import Average

NOW_S = 1_700_000_000.0


def scaled_job(node: str | None = "nano", **changes: Any) -> ScaledJob:
    spec = {"affinity": affinity.with_node(None, node)} if node else {}
    return dataclasses.replace(
        ScaledJob("sj", "pi1", "uid", 2, node, {}, spec, 1.0, True, True, False, NOW_S), **changes
    )


def job(name: str, node: str, created_s: float = 0.0, **changes: Any) -> Job:
    return Job(name, f"uid-{name}", "sj", created_s, node, **changes)


def pod(of: str, host: str = "agx", **changes: Any) -> Pod:
    return dataclasses.replace(Pod(f"pod-{of}", f"uid-pod-{of}", "sj", f"uid-{of}", host, "Running"), **changes)


def node(name: str, **changes: Any) -> Node:
    base = Node(name, name, True, False, {"gpu-node": name}, (), {"cpu": "4", "memory": "8Gi"})
    return dataclasses.replace(base, **changes)


def view(one: ScaledJob, jobs: list[Job], pods: list[Pod], taken_s: float = NOW_S, *nodes: Node) -> ClusterView:
    known = {each.host: each for each in nodes or (node("agx"), node("nano"))}
    return ClusterView(taken_s, known, {one.stream: one}, {one.name: jobs}, {one.name: pods})


def make(seen: ClusterView, **averages: float) -> model.Snapshot:
    found = {name: Average({"gpu": value}, 6, NOW_S - 30, NOW_S) for name, value in averages.items()}
    return SnapshotMaker(Ledger(Rules()), Watch()).make(seen, found, frozenset())
