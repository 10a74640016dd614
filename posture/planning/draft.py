"""A plan in the making: the snapshot, indexed, with the moves and vetoes that one loop has added so far.

A move planned earlier in the same loop counts in the projected averages of its destination (R1). All figures of
streams are kept for each signal.
"""

from __future__ import annotations

import math
import operator
from collections import Counter, defaultdict
from collections.abc import Collection
from random import Random

from posture.planning.model import (
    ONE_SIGNAL,
    ROUNDING,
    Move,
    MoveKind,
    NodeState,
    Phase,
    Points,
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
        self.inflow: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        """Node -> what is on its way there, in each signal."""
        shown = {signal for node in snapshot.nodes for signal in node.averages}
        self._signals = tuple(sorted(shown or {ONE_SIGNAL}))
        self._works: dict[str, Points] = {}
        self._usual = self._mean_priors()
        # R1: the window does not contain these loads yet; sorted, since sums of floats depend on their order
        for job in sorted((job for job in snapshot.jobs if job.moving), key=operator.attrgetter("stream")):
            self._add(self.nodes[job.node], self.cost(job, self.nodes[job.node]))
            if job.phase in {Phase.PENDING, Phase.ABSENT}:  # what a node has free does not know of its pod either
                self.used[job.node].update(job.requests)
        at_most = max(self._usual.values(), default=0.0)
        for arrival in snapshot.arriving:
            if arrival.node in self.nodes:
                node = self.nodes[arrival.node]
                for signal in self.signals(node):
                    usual = self._usual.get(signal, at_most) / node.speed_in(signal)
                    self.inflow[node.name][signal] += usual if arrival.cost is None else arrival.cost
                self.arrivals[arrival.node] += 1

    def _suspects(self) -> dict[str, int]:
        """R13: return how many streams failed to start on each suspect node.

        A single failing stream may be the cause itself, so that it makes no node suspect.
        """
        now_s = self.snapshot.now_s
        closed = Counter(node for job in self.snapshot.jobs for node in job.history.closed_at(now_s))
        return {node: streams for node, streams in closed.items() if streams >= self.rules.suspect_limit}

    def signals(self, node: NodeState) -> Collection[str]:
        """Return the signals that a node is read by; of one without a valid window, all of the farm's."""
        return node.averages.keys() or self._signals

    def projected(self, node: NodeState) -> Points:
        """R1: return window averages + this loop's arrivals + jobs still warming up there."""
        averages, inflow = node.averages, self.inflow[node.name]
        return {signal: averages.get(signal, 0.0) + inflow[signal] for signal in self.signals(node)}

    def cost(self, job: StreamState, node: NodeState) -> Points:
        """Return what a job costs on a node, in each of the node's signals (R8)."""
        work = self.work(job)
        return {signal: work[signal] / node.speed_in(signal) for signal in self.signals(node)}

    def with_job(self, job: StreamState, node: NodeState) -> float:
        """Return a node's projected average with a job on it: that of its scarcest signal."""
        cost = self.cost(job, node)
        return max(points + cost[signal] for signal, points in self.projected(node).items())

    def is_guess(self, job: StreamState, *nodes: NodeState) -> bool:
        """Say whether a job's load is not known in one of the nodes' signals."""
        return any(signal not in job.history.work for node in nodes for signal in self.signals(node))

    def work(self, job: StreamState) -> Points:
        """Return a job's work in each of the farm's signals: as learned or, while it is unknown, by the prior."""
        if job.stream not in self._works:
            self._works[job.stream] = {signal: self._work(job, signal) for signal in self._signals}
        return self._works[job.stream]

    def _work(self, job: StreamState, signal: str) -> float:
        """Return a job's work in one signal.

        The prior is its node's average / its job count; where its node does not show the signal, or its load is not
        in the average, the farm's mean of that; if no node with jobs shows it, the most that it costs in another
        signal. A load that was never seen is 0 only where the signal is.
        """
        if signal in job.history.work:
            return job.history.work[signal]
        node = self.nodes[job.node]
        there = sum(1 for other in self.jobs[job.node] if other.phase is Phase.RUNNING and not other.moving)
        if signal in node.averages and not job.moving and there:
            return node.averages[signal] * node.speed_in(signal) / there
        if signal in self._usual:
            return self._usual[signal]
        return max((*job.history.work.values(), *(self._work(job, other) for other in node.averages)), default=0.0)

    def _mean_priors(self) -> Points:
        """Return the mean prior of the farm in each signal that a node with jobs shows."""
        found = {}
        for signal in self._signals:
            known = [node for node in self.nodes.values() if signal in node.averages and self.jobs[node.name]]
            # fsum is the same in any order
            total = math.fsum(node.averages[signal] * node.speed_in(signal) for node in known)
            if known:
                found[signal] = total / sum(len(self.jobs[node.name]) for node in known)
        return found

    def _add(self, node: NodeState, cost: Points) -> None:
        for signal, points in cost.items():
            self.inflow[node.name][signal] += points

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
        source = self.nodes[job.node]
        cost = self.cost(job, destination)
        before = None if destination.usage is None else max(self.projected(destination).values())
        self.moves.append(
            Move(
                kind,
                job.stream,
                job.node,
                destination.name,
                self.cost(job, source),
                cost,
                source.usage,
                before,
                why,
                guess=self.is_guess(job, source, destination),
            )
        )
        self._add(destination, cost)
        self.arrivals[destination.name] += 1
        self.used[destination.name].update(job.requests)
        self.touched |= {job.node, destination.name}
