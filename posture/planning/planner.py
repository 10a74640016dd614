"""Where streams run: the first placement, and what moves when a node has too much. Pure.

Plain data in, a plan out: no clock, no I/O; randomness is passed in. The patcher, the balancer and the
simulator call the same two functions, :func:`even_spread` and :func:`plan_offloads`. Rules R1 to R15 are
explained in docs/balancing.md; the data are in model.py; what a loop has to remember for the next one is kept by
ledger.py.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from random import Random

from posture.planning.model import (
    Job,
    Keda,
    Move,
    MoveKind,
    Node,
    NodeHistory,
    Phase,
    Plan,
    Policy,
    Rules,
    Snapshot,
    StreamHistory,
    Veto,
    VetoReason,
)

__all__ = [
    "Job",
    "Keda",
    "Move",
    "MoveKind",
    "Node",
    "NodeHistory",
    "Phase",
    "Plan",
    "Policy",
    "Rules",
    "Snapshot",
    "StreamHistory",
    "Veto",
    "VetoReason",
    "cooldown_left",
    "eligible",
    "even_spread",
    "plan_offloads",
]

ROUNDING = 1e-6
"""Points by which an average may be over a threshold and still count as at it: sums of floats are not exact."""


def even_spread(
    streams: Collection[str], usage: Mapping[str, float], rng: Random, pinned: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Place streams evenly: each of M nodes gets floor(N/M) or ceil(N/M) of N streams.

    The N mod M extra ones go to the nodes with the lowest usage, ties at random. The result depends on names,
    usage and the state of ``rng``, not on the order in which they are given.

    Args:
        streams: the streams' names.
        usage: node -> points, of the nodes with a valid metric only.
        rng: breaks ties.
        pinned: stream -> node, for streams that have no choice; the others fill up around them.

    Returns:
        stream -> node.

    Raises:
        ValueError: there is a stream to place, and no node.
    """
    pinned = pinned or {}
    placed = {stream: pinned[stream] for stream in streams if stream in pinned}
    free = sorted(set(streams) - set(placed))
    if free and not usage:
        raise ValueError("no node has a valid metric")
    counts = Counter(placed.values())
    heap = [(counts[name], usage[name], rng.random(), name) for name in sorted(usage)]
    heapq.heapify(heap)
    for stream in free:
        count, points, tie, name = heap[0]
        placed[stream] = name
        heapq.heapreplace(heap, (count + 1, points, tie, name))
    return placed


def plan_offloads(snapshot: Snapshot, rules: Rules, rng: Random) -> Plan:
    """Plan one loop.

    Overloaded nodes, hottest first, each give up at most one running job to the node with the lowest
    (projected) average at or under the threshold, ties at random. ``guarded`` also plans restarts (R13) and
    failovers (R14), which come first in ``moves``.

    Bound: with static loads, exactly known works, and R3, R4, R5, R12, R13 and R14 not in play, each job moves
    at most once, and the number of loops until nothing moves is at most the number of moves + 1. For a
    destination stays at or under the threshold (R2), whatever else comes in the same loop (R1), so it never
    becomes a source, and a job that has moved never moves again; and a loop without a move is the last one.
    With R3 the sorted vector of loads still falls lexicographically with each move, so that it ends.

    Args:
        snapshot: the farm as it is; it is not changed.
        rules: policy and limits.
        rng: breaks ties; equal snapshots and states of ``rng`` give equal plans.
    """
    loop = _Loop(snapshot, rules, rng)
    _plan_rescues(loop)
    _plan_offloads(loop)
    return Plan(tuple(loop.moves), tuple(loop.vetoes), tuple(node.name for node in loop.overloaded))


def eligible(job: Job, node: Node, now_s: float, used: Mapping[str, float] | None = None) -> bool:
    """Say whether the job's pod could run on the node (R7) and may start there (R13).

    Args:
        job: the stream to place.
        node: where.
        now_s: the time now; a node that failed to start the stream is closed to it for a while.
        used: resources on the node that this loop has given away already.
    """
    if not node.ready or node.cordoned or not node.labelled or node.name in job.barred:
        return False
    if not node.taints <= job.tolerates:
        return False
    if node.name in job.history.closed and job.history.closed[node.name][0] > now_s:
        return False
    if node.free is None:
        return True
    used = used or {}
    return all(node.free.get(name, 0.0) - used.get(name, 0.0) >= wanted for name, wanted in job.requests.items())


def cooldown_left(history: StreamHistory, rules: Rules, now_s: float) -> float:
    """Return for how many seconds more a stream must not be offloaded again, 0 if it may be (R4).

    A last move that lies further ahead than its cooldown is long was noted by a clock that was wrong.
    """
    if not history.moves:
        return 0.0
    doublings = min(history.moves - 1, 60)
    whole = min(rules.cooldown_base_s * 2.0**doublings, rules.cooldown_cap_s)
    left = history.last_move_s + whole - now_s
    return left if 0 < left <= 2 * whole else 0.0


class _Loop:
    """What one loop works on: the snapshot, indexed, and what the plan has added so far."""

    def __init__(self, snapshot: Snapshot, rules: Rules, rng: Random) -> None:
        self.snapshot = snapshot
        self.rules = rules
        self.rng = rng
        self.moves: list[Move] = []
        self.vetoes: list[Veto] = []
        self.nodes = {node.name: node for node in snapshot.nodes}
        self.jobs: defaultdict[str, list[Job]] = defaultdict(list)
        for job in snapshot.jobs:
            self.jobs[job.node].append(job)
            if job.node not in self.nodes:  # gone, and for how long nobody says
                self.nodes[job.node] = Node(job.node, None, "gone", ready=False)
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
        for job in sorted((job for job in snapshot.jobs if job.moving), key=_by_name):  # R1: still warming up
            self.inflow[job.node] += self.work(job) / self.nodes[job.node].speed

    def _suspects(self) -> dict[str, int]:
        """R13: return nodes where several streams failed to start, and how many; one alone may be the cause."""
        now_s = self.snapshot.now_s
        closed = Counter(
            node
            for job in self.snapshot.jobs
            if job.history.closed
            for node, (until_s, _) in job.history.closed.items()
            if until_s > now_s
        )
        return {node: streams for node, streams in closed.items() if streams >= self.rules.suspect_limit}

    def projected(self, node: Node) -> float:
        """R1: window average + inflow of this loop + moves still warming up."""
        return (node.usage or 0.0) + self.inflow[node.name]

    def work(self, job: Job) -> float:
        """Return a job's learned work or, while it is unknown, the prior: its node's average / its job count."""
        if job.history.work is not None:
            return job.history.work
        node = self.nodes[job.node]
        there = sum(1 for other in self.jobs[job.node] if other.phase is Phase.RUNNING and not other.moving)
        if node.usage is None or job.moving or not there:
            return self._usual()
        return node.usage * node.speed / there

    def _usual(self) -> float:
        """Return the mean prior of the farm, for jobs on nodes that say nothing."""
        if self._usual_work is None:
            known = [node for node in self.nodes.values() if node.usage is not None and self.jobs[node.name]]
            total = math.fsum((node.usage or 0.0) * node.speed for node in known)  # whatever their order
            self._usual_work = total / max(1, sum(len(self.jobs[node.name]) for node in known))
        return self._usual_work

    def veto(self, reason: VetoReason, node: str = "", stream: str = "", **numbers: float | str) -> None:
        """Add a veto."""
        self.vetoes.append(Veto(reason, node, stream, numbers))

    def move(self, kind: MoveKind, job: Job, destination: Node, why: str) -> None:
        """Add a move, and count it in the projection of its destination."""
        work = self.work(job)
        source = self.nodes[job.node]
        cost = work / destination.speed
        before = None if destination.usage is None else self.projected(destination)
        self.moves.append(
            Move(kind, job.stream, job.node, destination.name, work / source.speed, cost, source.usage, before, why)
        )
        self.inflow[destination.name] += cost
        self.arrivals[destination.name] += 1
        self.used[destination.name].update(job.requests)
        self.touched |= {job.node, destination.name}


class _Shelves:
    """Possible destinations, one shelf for each speed, the best on the left.

    On a shelf a job costs the same everywhere: the first node that can take it is the shelf's best.
    """

    def __init__(self, loop: _Loop, nodes: Iterable[Node], *, spread: bool = False) -> None:
        """Sort the nodes by projected average, ties at random.

        Args:
            loop: the present loop.
            nodes: the possible destinations.
            spread: sort by arrivals in this loop first.
        """
        self._loop = loop
        self._spread = spread
        self._shelves: defaultdict[float, list[tuple[int, float, float, str]]] = defaultdict(list)
        self._entries: dict[str, tuple[int, float, float, str]] = {}
        self._hopeless: dict[Hashable, float] = {}  # kind of pod and limit -> the least work that fitted nowhere
        for node in nodes:
            self._entries[node.name] = self._entry(node)
            self._shelves[node.speed].append(self._entries[node.name])
        for shelf in self._shelves.values():
            shelf.sort()

    def _entry(self, node: Node) -> tuple[int, float, float, str]:
        loop = self._loop
        arrivals = loop.arrivals[node.name] if self._spread else 0
        return (arrivals, loop.projected(node), loop.tie[node.name], node.name)

    def best(self, job: Job, limit: float = math.inf) -> Node | None:
        """Return the best node that can run the job and stays at or under the limit (in points) with it."""
        loop = self._loop
        work = loop.work(job)
        # headroom and room only shrink during a loop: what fitted nowhere needn't be tried again
        own = job.node if job.node in self._entries else ""
        alike = (limit, own, job.tolerates, job.barred, *sorted(job.requests.items()), *job.history.closed)
        if work >= self._hopeless.get(alike, math.inf):
            return None
        found = []
        for speed, shelf in self._shelves.items():
            cost = work / speed
            for entry in shelf:
                if entry[1] + cost > limit:
                    if self._spread:
                        continue
                    break
                node = loop.nodes[entry[3]]
                if node.name != job.node and eligible(job, node, loop.snapshot.now_s, loop.used.get(node.name)):
                    found.append(entry)
                    break
        if not found:
            self._hopeless[alike] = work
            return None
        return loop.nodes[min(found)[3]]

    def refresh(self, node: Node) -> None:
        """Put a node to its new place after a move to it."""
        old = self._entries.get(node.name)
        if old is None:
            return
        shelf = self._shelves[node.speed]
        del shelf[bisect.bisect_left(shelf, old)]
        self._entries[node.name] = self._entry(node)
        bisect.insort(shelf, self._entries[node.name])


def _plan_rescues(loop: _Loop) -> None:
    """R13 and R14: streams that can't start where they are, or whose node is lost."""
    lost = _lost_nodes(loop)
    waiting = []
    for job in loop.snapshot.jobs:
        node = loop.nodes[job.node]
        if job.failing_s is None and node.ready and not (node.cordoned and _has_no_pod(job)):
            continue
        trouble = _trouble(loop, job, node, lost)
        if trouble is not None and _may_be_rescued(loop, job, node):
            waiting.append((*trouble, job))
    if not waiting:
        return
    # restarts first, then the heaviest: the small ones fit into what is left
    waiting.sort(key=lambda entry: (entry[0] is MoveKind.FAILOVER, -loop.work(entry[2]), entry[2].stream))
    known = [node for node in loop.nodes.values() if node.usage is not None]
    trusted = _Shelves(loop, (node for node in known if node.name not in loop.suspects), spread=True)
    suspect = _Shelves(loop, (node for node in known if node.name in loop.suspects), spread=True)
    unknown = _Shelves(loop, (node for node in loop.nodes.values() if node.usage is None), spread=True)
    for kind, why, job in waiting:
        destination = _origin(loop, job) if kind is MoveKind.RESTART else None
        for shelves in (trusted, suspect, unknown):
            # R1 and R2 rank here, they don't forbid
            destination = destination or shelves.best(job, loop.limit) or shelves.best(job)
        if destination is None:
            loop.veto(VetoReason.NO_ELIGIBLE_NODE, job.node, job.stream)
            continue
        loop.move(kind, job, destination, why)
        for shelves in (trusted, suspect, unknown):
            shelves.refresh(destination)


def _origin(loop: _Loop, job: Job) -> Node | None:
    """R13: return the node that a stream came from, if it could start there."""
    origin = loop.nodes.get(job.history.origin)
    if origin is None or origin.name == job.node or not eligible(job, origin, loop.snapshot.now_s):
        return None
    return origin


def _has_no_pod(job: Job) -> bool:
    return job.phase in (Phase.PENDING, Phase.ABSENT)


def _lost_nodes(loop: _Loop) -> set[str]:
    """R14: nodes that are NotReady or gone for long enough to give them up."""
    grace = loop.rules.node_grace_s
    down = [node for node in loop.nodes.values() if not node.ready]
    lost = {node.name for node in down if node.down_s > grace}
    if loop.snapshot.contact_s <= grace:
        for node in down:
            loop.veto(VetoReason.NO_CONTACT, node.name, contact_s=loop.snapshot.contact_s, node_grace_s=grace)
        return set()
    for node in down:
        if node.name not in lost:
            loop.veto(VetoReason.NODE_GRACE, node.name, down_s=node.down_s, node_grace_s=grace)
    if 2 * len(lost) > len(loop.nodes):
        loop.veto(VetoReason.MANY_LOST, lost=float(len(lost)), nodes=float(len(loop.nodes)))
        return set()
    return lost


def _trouble(loop: _Loop, job: Job, node: Node, lost: set[str]) -> tuple[MoveKind, str] | None:
    """Say what a stream has to be rescued from, or veto."""
    rules = loop.rules
    if not node.ready:
        if node.name not in lost:
            return None
        return MoveKind.FAILOVER, f"{node.name} has been away for {node.down_s:.0f} s"
    if node.cordoned and _has_no_pod(job):
        return MoveKind.FAILOVER, f"{node.name} is cordoned and has no pod of it"
    timeout = rules.pull_timeout_s if job.pulling else rules.start_timeout_s
    failing = job.failing_s or 0.0
    if failing <= timeout:
        loop.veto(VetoReason.START_GRACE, node.name, job.stream, failing_s=failing, start_timeout_s=timeout)
        return None
    return MoveKind.RESTART, f"it has failed to start on {node.name} for {failing:.0f} s"


def _may_be_rescued(loop: _Loop, job: Job, node: Node) -> bool:
    """Veto what must stay although it is in trouble."""
    if loop.rules.policy is Policy.README:
        loop.veto(VetoReason.POLICY, node.name, job.stream)
    elif job.pinned:
        loop.veto(VetoReason.PINNED, node.name, job.stream)
    elif node.ready and job.phase is not Phase.ABSENT and not job.keda.brings_successor:
        _veto_keda(loop, job)
    else:
        return True
    return False


def _veto_keda(loop: _Loop, job: Job) -> None:
    keda = job.keda
    state = (
        "paused" if keda.paused else "not Ready" if not keda.ready else "Active" if keda.active else "not Active"
    )
    age = keda.last_active_age_s
    loop.veto(VetoReason.KEDA_AWAY, job.node, job.stream, scaledjob=state, last_active_age_s=age)


def _plan_offloads(loop: _Loop) -> None:
    """Take the four steps' third: at most one job from each overloaded node, hottest first."""
    known = [node for node in loop.nodes.values() if node.usage is not None]
    for node in loop.nodes.values():
        if node.usage is None and node.ready and known:
            loop.veto(VetoReason.METRIC_UNKNOWN, node.name, why=node.why_unknown)
    if not known:
        loop.veto(VetoReason.NO_METRICS, nodes=float(len(loop.nodes)))
    elif len(loop.overloaded) == len(known):
        lowest = min(node.usage or 0.0 for node in known)
        loop.veto(VetoReason.ALL_OVERLOADED, nodes=float(len(known)), lowest=lowest, threshold=loop.rules.threshold)
    elif loop.overloaded:
        under = [node for node in known if (node.usage or 0.0) <= loop.limit]
        if loop.rules.policy is Policy.README:
            _offload_to_the_letter(loop, under)
        else:
            _offload_guarded(loop, under)


def _offload_guarded(loop: _Loop, under: list[Node]) -> None:
    """``guarded``: each source gives up the job whose leaving helps best, if there is a place for it."""
    for node in under:
        if node.name in loop.suspects:
            loop.veto(VetoReason.START_FAILURES, node.name, streams=float(loop.suspects[node.name]))
    trusted = [node for node in under if node.name not in loop.suspects]
    clean = _Shelves(loop, (node for node in trusted if node.history.clean))
    settling = _Shelves(loop, (node for node in trusted if not node.history.clean))
    for source in loop.overloaded:
        if _is_source(loop, source):
            _offload_one(loop, source, clean, settling)


def _offload_to_the_letter(loop: _Loop, under: list[Node]) -> None:
    """``readme``: any running job, to the lowest average of the window; nothing that this loop does counts."""
    under.sort(key=lambda node: (node.usage or 0.0, node.name))
    groups = [list(group) for _, group in itertools.groupby(under, key=lambda node: node.usage)]
    for source in loop.overloaded:
        jobs = _movable_jobs(loop, source)
        if not jobs:
            continue
        job = loop.rng.choice(jobs)
        destination = next(filter(None, (_any_able(loop, job, group) for group in groups)), None)
        if destination is None:
            loop.veto(VetoReason.NO_ELIGIBLE_NODE, source.name, job.stream)
        else:
            loop.move(MoveKind.OFFLOAD, job, destination, f"{source.name} is over the threshold")


def _any_able(loop: _Loop, job: Job, group: list[Node]) -> Node | None:
    """Return one of a group's nodes that can run the job, each as probable as the others."""
    node = loop.rng.choice(group)
    if eligible(job, node, loop.snapshot.now_s):
        return node
    able = [node for node in group if eligible(job, node, loop.snapshot.now_s)]
    return loop.rng.choice(able) if able else None


def _is_source(loop: _Loop, node: Node) -> bool:
    """Veto what keeps an overloaded node from giving up a job in this loop."""
    rules, history, usage = loop.rules, node.history, node.usage or 0.0
    if usage <= loop.limit + rules.hysteresis:
        loop.veto(VetoReason.HYSTERESIS, node.name, usage=usage, needed=rules.threshold + rules.hysteresis)
    elif history.over_before + 1 < rules.dwell:
        loop.veto(VetoReason.DWELL, node.name, windows=float(history.over_before + 1), needed=float(rules.dwell))
    elif node.name in loop.touched or (not history.clean and history.spoiled_windows < rules.spoiled_limit):
        loop.veto(VetoReason.SETTLING, node.name, spoiled_windows=float(history.spoiled_windows))
    elif history.useless_moves >= rules.useless_limit:
        loop.veto(VetoReason.NOT_OUR_LOAD, node.name, usage=usage, moves=float(history.useless_moves))
    else:
        return True
    return False


def _movable_jobs(loop: _Loop, source: Node) -> list[Job]:
    """Return the running jobs of an overloaded node that may leave it; veto the others."""
    if not source.ready:
        loop.veto(VetoReason.NOT_READY, source.name, usage=source.usage or 0.0)
        return []
    running = sorted((job for job in loop.jobs[source.name] if job.phase is Phase.RUNNING), key=_by_name)
    if not running:
        loop.veto(VetoReason.NO_JOB, source.name, usage=source.usage or 0.0)
    return [job for job in running if _may_leave(loop, job)]


def _by_name(job: Job) -> str:
    return job.stream


def _may_leave(loop: _Loop, job: Job) -> bool:
    rules, now = loop.rules, loop.snapshot.now_s
    guarded = rules.policy is Policy.GUARDED
    if job.pinned:
        loop.veto(VetoReason.PINNED, job.node, job.stream)
    elif job.moving or job.failing_s is not None:
        loop.veto(VetoReason.IN_MOVE, job.node, job.stream)
    elif not job.keda.brings_successor:
        _veto_keda(loop, job)
    elif guarded and (left := cooldown_left(job.history, rules, now)) > 0:
        loop.veto(VetoReason.COOLDOWN, job.node, job.stream, seconds_left=left, moves=float(job.history.moves))
    elif guarded and _taught_nothing(job.history) and now < job.history.last_move_s + rules.cooldown_cap_s:
        loop.veto(VetoReason.LOAD_UNKNOWN, job.node, job.stream)
    else:
        return True
    return False


def _taught_nothing(history: StreamHistory) -> bool:
    """Say whether a move with an unknown load is behind this stream, and the load is unknown still.

    A fault may have cost the lesson, so it is not held against the stream for longer than the longest cooldown.
    """
    return history.tried and history.work is None


def _offload_one(loop: _Loop, source: Node, clean: _Shelves, settling: _Shelves) -> None:
    """``guarded``: move the job whose leaving helps best, or veto."""
    usage = source.usage or 0.0
    reliefs = sorted((loop.work(job) / source.speed, job.stream, job) for job in _movable_jobs(loop, source))
    if not reliefs:
        return
    needed = usage - loop.limit
    curing = [job for relief, _, job in reliefs if relief >= needed]
    others = [job for relief, _, job in reversed(reliefs) if relief < needed]
    for job in curing + others:
        destination = clean.best(job, loop.limit)
        if destination is not None:
            after = usage - loop.work(job) / source.speed
            loop.move(MoveKind.OFFLOAD, job, destination, f"{source.name} comes from {usage:.1f} to {after:.1f}")
            clean.refresh(destination)
            return
    for job in curing + others:
        waiting_for = settling.best(job, loop.limit)
        if waiting_for is not None:
            loop.veto(VetoReason.DESTINATION_SETTLING, source.name, job.stream, destination=waiting_for.name)
            return
    _exchange(loop, source, curing + others, clean)


def _exchange(loop: _Loop, source: Node, jobs: Sequence[Job], clean: _Shelves) -> None:
    """R3: nothing fits; pass the overload on only where it becomes smaller."""
    usage = source.usage or 0.0
    limit = usage - loop.rules.hysteresis - 2 * ROUNDING
    choices = []
    for job in jobs:
        destination = clean.best(job, limit)
        if destination is not None:
            work = loop.work(job)
            after = max(usage - work / source.speed, loop.projected(destination) + work / destination.speed)
            choices.append((after, job.stream, job, destination))
    if not choices:
        smallest = min(loop.work(job) for job in jobs) / source.speed
        loop.veto(VetoReason.UNPLACEABLE, source.name, usage=usage, smallest_job=smallest)
        return
    after, _, job, destination = min(choices, key=lambda choice: choice[:2])
    why = f"nothing fits; the higher of both comes from {usage:.1f} to {after:.1f}"
    loop.move(MoveKind.OFFLOAD, job, destination, why)
    clean.refresh(destination)
