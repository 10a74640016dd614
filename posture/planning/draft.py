"""A plan in the making: the snapshot, indexed, with the moves and vetoes that one loop has added so far.

A move planned earlier in the same loop counts in the projected average of its destination (R1).
"""

from __future__ import annotations

import math
import operator
from collections import Counter, defaultdict
from random import Random

from posture.planning.model import (
    ROUNDING,
    Move,
    MoveKind,
    NodeState,
    Phase,
    Rules,
    Snapshot,
    StreamState,
    Veto,
    VetoReason,
)


class Draft:
    """What one loop works on: the snapshot, indexed by node, and what has been planned so far.

    Args:
        snapshot: the farm as it is; it is not changed.
        rules: policy and limits.
        rng: breaks ties; drawn once for each node.
    """

    def __init__(self, snapshot: Snapshot, rules: Rules, rng: Random) -> None:
        self.snapshot = snapshot
        self.rules = rules
        self.rng = rng
        self.moves: list[Move] = []
        self.vetoes: list[Veto] = []
        self.nodes = {node.name: node for node in snapshot.nodes}
        self.jobs: defaultdict[str, list[StreamState]] = defaultdict(list)
        for job in snapshot.jobs:
            self.jobs[job.node].append(job)
            if job.node not in self.nodes:  # a deleted node; for how long it has been gone is not known
                self.nodes[job.node] = NodeState(job.node, None, "gone", ready=False, gone=True)
        self.tie = {name: rng.random() for name in sorted(self.nodes)}
        self.limit = rules.threshold + ROUNDING
        self.overloaded = sorted(
            (node for node in self.nodes.values() if node.usage is not None and node.usage > self.limit),
            key=lambda node: (-(node.usage or 0.0), self.tie[node.name]),
        )
        self.suspects = self._suspects()
        self.touched: set[str] = set()
        self.arrivals: Counter[str] = Counter()
        self.used: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.inflow: defaultdict[str, float] = defaultdict(float)
        self._usual_work: float | None = None
        # R1: the window does not contain these loads yet; sorted, since sums of floats depend on their order
        for job in sorted((job for job in snapshot.jobs if job.moving), key=operator.attrgetter("stream")):
            self.inflow[job.node] += self.work(job) / self.nodes[job.node].speed
        for arrival in snapshot.arriving:
            if arrival.node in self.nodes:
                cost = self._usual() / self.nodes[arrival.node].speed if arrival.cost is None else arrival.cost
                self.inflow[arrival.node] += cost
                self.arrivals[arrival.node] += 1

    def _suspects(self) -> dict[str, int]:
        """R13: return how many streams failed to start on each suspect node.

        A single failing stream may be the cause itself, so that it makes no node suspect.
        """
        now_s = self.snapshot.now_s
        closed = Counter(
            node
            for job in self.snapshot.jobs
            if job.history.closed
            for node, (until_s, _) in job.history.closed.items()
            if until_s > now_s
        )
        return {node: streams for node, streams in closed.items() if streams >= self.rules.suspect_limit}

    def projected(self, node: NodeState) -> float:
        """R1: return window average + this loop's arrivals + jobs still warming up there, in points."""
        return (node.usage or 0.0) + self.inflow[node.name]

    def work(self, job: StreamState) -> float:
        """Return a job's learned work or, while it is unknown, the prior: its node's average / its job count."""
        if job.history.work is not None:
            return job.history.work
        node = self.nodes[job.node]
        there = sum(1 for other in self.jobs[job.node] if other.phase is Phase.RUNNING and not other.moving)
        if node.usage is None or job.moving or not there:
            return self._usual()
        return node.usage * node.speed / there

    def _usual(self) -> float:
        """Return the mean prior of the farm, for jobs whose own node has no valid metric."""
        if self._usual_work is None:
            known = [node for node in self.nodes.values() if node.usage is not None and self.jobs[node.name]]
            total = math.fsum((node.usage or 0.0) * node.speed for node in known)  # the same in any order
            self._usual_work = total / max(1, sum(len(self.jobs[node.name]) for node in known))
        return self._usual_work

    def veto(self, reason: VetoReason, node: str = "", stream: str = "", **numbers: float | str) -> None:
        """Add a veto; ``numbers`` are the figures behind it."""
        self.vetoes.append(Veto(reason, node, stream, numbers))

    def veto_refused(self, job: StreamState) -> None:
        """Add a veto: the API server refused a change of this stream a short time ago."""
        self.veto(VetoReason.REFUSED, job.node, job.stream, seconds_left=job.refused_s)

    def veto_keda(self, job: StreamState) -> None:
        """Add a veto: nothing says that KEDA would make a successor of this stream's Job (R15)."""
        age_s = job.keda.last_active_age_s
        self.veto(VetoReason.KEDA_AWAY, job.node, job.stream, scaledjob=job.keda.state, last_active_age_s=age_s)

    def move(self, kind: MoveKind, job: StreamState, destination: NodeState, why: str) -> None:
        """Add a move, and count it in the projection of its destination."""
        work = self.work(job)
        source = self.nodes[job.node]
        cost = work / destination.speed
        before = None if destination.usage is None else self.projected(destination)
        self.moves.append(
            Move(
                kind,
                job.stream,
                job.node,
                destination.name,
                work / source.speed,
                cost,
                source.usage,
                before,
                why,
                guess=job.history.work is None,
            )
        )
        self.inflow[destination.name] += cost
        self.arrivals[destination.name] += 1
        self.used[destination.name].update(job.requests)
        self.touched |= {job.node, destination.name}
