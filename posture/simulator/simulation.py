"""A discrete-event simulation of a farm: nodes, jobs, KEDA, exporters and the balancer.

Planner and ledger are the real balancer's; everything around them is a model: a deleted job stops at once, its
successor comes with KEDA's next poll, takes some seconds to start and costs more until it is warm; readings are
delayed and noisy; nodes and exporters fail when the scenario says so.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posture.planning.ledger import NO_HISTORY, Ledger
from posture.planning.model import (
    ROUNDING,
    Move,
    MoveKind,
    NodeState,
    Phase,
    Plan,
    Points,
    Policy,
    Rules,
    Snapshot,
    StreamHistory,
    StreamState,
    VetoReason,
)
from posture.planning.offloads import plan_offloads
from posture.planning.spread import even_spread
from posture.simulator.scenario import NONE, Bounds, Event, Scenario, fits, lower_bounds, surplus_jobs

Floats = NDArray[np.float64]
Planner = Callable[[Snapshot, Rules, Random], Plan]

PASSING = {
    VetoReason.SETTLING,
    VetoReason.DESTINATION_SETTLING,
    VetoReason.COOLDOWN,
    VetoReason.DWELL,
    VetoReason.IN_MOVE,
    VetoReason.NODE_GRACE,
    VetoReason.START_GRACE,
}
"""Vetoes that may end by the passing of time alone."""


@dataclass(frozen=True)
class Timeline:
    """A run over time, for a picture."""

    times_s: list[float]
    usage: list[NDArray[np.float64]]
    """For each time, each node's load in points (what it is asked for, which may be over 100); NaN: lost."""
    moves: list[tuple[float, Move]]


@dataclass(frozen=True)
class Result:
    """How one run went."""

    scenario: Scenario
    seed: int
    bounds: Bounds
    feasible: bool
    """Every job has a place at or under the threshold by the heaviest-first rule."""
    stable: bool
    """At the end no node is over threshold + hysteresis, and the last loop had nothing to move."""
    loops: int
    """Loops that ran."""
    loops_to_stable: int
    """Loops until the last one that moved anything or found a node over the threshold, and one more."""
    moves: int
    moves_by_kind: dict[str, int]
    repeated: int
    """Offloads of streams that had been offloaded before."""
    overloaded_node_s: float
    """Seconds that nodes spent over the threshold, summed over the nodes."""
    downtime_s: float
    """Seconds without a Ready pod, summed over the streams."""
    longest_downtime_s: float
    """The longest time that one stream was down without a break."""
    unplaceable: int
    """Jobs that would still have to leave overloaded nodes at the end."""
    max_load: float
    """Points of the fullest node at the end."""
    vetoes: dict[str, int]
    timeline: Timeline = field(repr=False)


@dataclass
class _SimulatedJob:
    """One stream's job in the model."""

    stream: str
    work: Floats
    """In each signal, as everything of loads here."""
    node: int
    """The node that its affinity names."""
    phase: Phase = Phase.RUNNING
    runs_on: int = -1
    """The node that carries its load; -1: none."""
    cost: Floats | float = 0.0
    settled_s: float = -math.inf
    """Its load is in the windows that begin later."""
    failing_since_s: float | None = None
    down_since_s: float | None = None
    downtime_s: float = 0.0
    longest_downtime_s: float = 0.0
    life: int = 0
    """Number of its current pod: events of earlier ones are ignored."""


class Simulation:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario, seed: int = 0, planner: Planner | None = None) -> None:
        """Build the farm and place its jobs.

        Args:
            scenario: what to simulate.
            seed: for loads, placement, noise and ties.
            planner: used instead of the scenario's policy, on the same snapshots.
        """
        self.scenario = scenario
        self.seed = seed
        self.rng = Random(seed)  # noqa: S311 - a model needs repeatable chance, not secrecy
        self._noise = np.random.default_rng(seed)
        self.names = list(scenario.nodes)
        self.index = {name: number for number, name in enumerate(self.names)}
        self.signals = list(scenario.loads)
        self.speeds = np.array(
            [[kind.speed_in(signal) for kind in scenario.nodes.values()] for signal in self.signals]
        )
        self._read = [scenario.read_of(kind) for kind in scenario.nodes.values()]
        """The signals that the balancer reads of each node."""
        classes = {name: name.rpartition("-")[0] for name in self.names}
        self.rules = Rules(
            Policy.README if scenario.policy == Policy.README.value else Policy.GUARDED,
            threshold=scenario.threshold,
            dwell=scenario.dwell,
            hysteresis=scenario.hysteresis,
        )
        self.planner = planner or (_plan_nothing if scenario.policy == NONE else plan_offloads)
        self.patient = False
        """Run all loops, even after one that shows that nothing can change any more."""
        self.ledger = Ledger(self.rules, classes)
        n = len(self.names)
        self.load: Floats = np.zeros((len(self.signals), n))
        """Of each signal and node."""
        self.up: NDArray[np.bool_] = np.ones(n, dtype=bool)
        self.cordoned = [False] * n
        self.broken = [False] * n
        self.foreign: Floats = np.zeros((len(self.signals), n))
        self.down_at_s: list[float | None] = [None] * n
        self.exporter = ["speaking"] * n
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._samples: list[tuple[float, NDArray[np.float64], NDArray[np.bool_]]] = []
        self._window_start_s = 0.0
        self.plans: list[Plan] = []
        self._overloaded_node_s = 0.0
        self._last_busy_loop = 0
        self.timeline = Timeline([], [], [])
        self.jobs = self._first_placement()
        self.by_stream = {job.stream: job for job in self.jobs}
        self.work = np.array([job.work for job in self.jobs])
        on = [job.node for job in self.jobs]
        bounds = [lower_bounds(*alone, on, scenario.threshold) for alone in self._each_signal()]
        self.bounds = Bounds(
            max(one.max_load for one in bounds), max(one.loops for one in bounds), max(one.moves for one in bounds)
        )
        self._untouched = {job.stream: self._view(job, NO_HISTORY) for job in self.jobs}

    def run(self) -> Result:
        """Run all loops, or until nothing can change any more."""
        scenario = self.scenario
        for event in scenario.events:
            self._at(event.at_s, self._happens, self.index[event.node], event)
        self._at(0.0, self._scrape)
        impatient_from_s = max((event.at_s for event in scenario.events), default=0.0) + scenario.notready_s + 120
        if scenario.noise or self.patient:
            impatient_from_s = math.inf
        time_s = 0.0
        for loop in range(1, scenario.loops + 1):
            self._open_window(time_s)
            self._run_until(time_s + scenario.window_s)
            quiet = self._loop(loop)
            if quiet and self.now_s > impatient_from_s:
                break
            time_s += scenario.window_s + scenario.interval_s
            self._run_until(time_s)
        return self._result(loop)

    def _first_placement(self) -> list[_SimulatedJob]:
        """Place the jobs; all run and are warm when the clock starts."""
        scenario = self.scenario
        streams = [f"pi{number}" for number in range(1, scenario.jobs + 1)]
        joined = self.names[: len(self.names) - scenario.idle]
        if scenario.start == "even":
            placed = even_spread(streams, dict.fromkeys(joined, 0.0), self.rng)
        else:
            placed = {stream: self.rng.choice(joined) for stream in streams}
        jobs = []
        for stream in streams:
            work = np.array([self.rng.uniform(*bounds) for bounds in scenario.loads.values()])
            job = _SimulatedJob(stream, work, self.index[placed[stream]])
            self._costs(job, job.node, 1.0)
            jobs.append(job)
        return jobs

    # -- the clock ---------------------------------------------------------------------------------------------

    def _at(self, time_s: float, action: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (time_s, self._number, action, arguments))

    def _run_until(self, time_s: float) -> None:
        while self._events and self._events[0][0] <= time_s:
            self.now_s, _, action, arguments = heapq.heappop(self._events)
            action(*arguments)
        self.now_s = time_s

    # -- jobs --------------------------------------------------------------------------------------------------

    def _costs(self, job: _SimulatedJob, node: int, times: float) -> None:
        """Let a job cost ``times`` its load on a node; -1: on none."""
        if job.runs_on >= 0:
            self.load[:, job.runs_on] -= job.cost
        job.runs_on = node
        job.cost = job.work / self.speeds[:, node] * times if node >= 0 else 0.0
        if node >= 0:
            self.load[:, node] += job.cost

    def _stop(self, job: _SimulatedJob, phase: Phase) -> None:
        """End a job's pod."""
        job.life += 1
        job.phase = phase
        job.failing_since_s = None
        self._costs(job, -1, 0.0)
        if job.down_since_s is None:
            job.down_since_s = self.now_s

    def _next_poll_s(self, after_s: float) -> float:
        """Return the time of KEDA's next poll; all ScaledJobs are polled at the same times."""
        poll_s = self.scenario.poll_s
        return (math.floor(after_s / poll_s) + 1) * poll_s

    def _start(self, job: _SimulatedJob, life: int) -> None:
        """KEDA has made a Job; its pod starts if its node allows it."""
        if job.life != life:
            return
        node = job.node
        if not self.up[node] or self.cordoned[node]:
            job.phase = Phase.PENDING
            if self.up[node]:
                job.failing_since_s = self.now_s
            return
        job.phase = Phase.STARTING
        if self.broken[node]:
            job.failing_since_s = self.now_s
            return
        self.ledger.change_begins(job.stream, self.names[node])
        self._costs(job, node, self.scenario.start_cost)
        spread = self.rng.uniform(0.75, 1.25)
        self._at(self.now_s + self.scenario.start_s * spread, self._ready, job, job.life)

    def _ready(self, job: _SimulatedJob, life: int) -> None:
        if job.life != life:
            return
        scenario = self.scenario
        job.phase = Phase.RUNNING
        self._end_downtime(job)
        job.settled_s = self.now_s + scenario.warm_up_s + scenario.lag_s + scenario.scrape_s
        self.ledger.change_ends(job.stream, job.settled_s)
        self._at(self.now_s + scenario.warm_up_s, self._warm, job, life)

    def _warm(self, job: _SimulatedJob, life: int) -> None:
        if job.life == life:
            self._costs(job, job.node, 1.0)

    def _end_downtime(self, job: _SimulatedJob) -> None:
        if job.down_since_s is not None:
            gap_s = self.now_s - job.down_since_s
            job.downtime_s += gap_s
            job.longest_downtime_s = max(job.longest_downtime_s, gap_s)
            job.down_since_s = None

    def _carry_out(self, move: Move) -> None:
        """Move a job as the real balancer does: new affinity, then deletion; KEDA makes the new Job."""
        job = self.by_stream[move.stream]
        self.ledger.moved(move, self.now_s)
        self.timeline.moves.append((self.now_s, move))
        job.node = self.index[move.destination]
        job.settled_s = math.inf
        self._stop(job, Phase.ABSENT)
        self._at(self._next_poll_s(self.now_s + self.scenario.stop_s), self._start, job, job.life)

    # -- nodes -------------------------------------------------------------------------------------------------

    def _happens(self, node: int, event: Event) -> None:
        """Apply an event of the scenario to a node."""
        what = event.what
        if what == "foreign":
            points = np.array([event.points_in(signal) for signal in self.signals])
            self.load[:, node] += points - self.foreign[:, node]
            self.foreign[:, node] = points
        elif what in ("silent", "stale", "speaking"):
            self.exporter[node] = what
        else:
            self._changes(node, what)

    def _changes(self, node: int, what: str) -> None:
        """Change whether a node is up and can start pods; its jobs stop or start again with it."""
        if what in ("down", "up"):
            self.up[node] = what == "up"
            self.down_at_s[node] = None if what == "up" else self.now_s
        elif what in ("cordon", "uncordon"):
            self.cordoned[node] = what == "cordon"
        else:
            self.broken[node] = what == "broken"
        for job in self._on(node):
            if what == "down":
                self._stop(job, Phase.RUNNING)  # the API server goes on showing the pod as it was
            elif what == "broken":
                self._stop(job, Phase.ABSENT)
            if what not in ("down", "cordon") and job.runs_on < 0:
                job.life += 1
                self._at(self._next_poll_s(self.now_s), self._start, job, job.life)

    def _on(self, node: int) -> list[_SimulatedJob]:
        return [job for job in self.jobs if job.node == node]

    # -- usage -------------------------------------------------------------------------------------------------

    def _scrape(self) -> None:
        """Read the present loads; Prometheus has them after the lag."""
        scenario = self.scenario
        usage = self.load.max(axis=0)
        over = (usage > scenario.threshold + ROUNDING) & self.up
        self._overloaded_node_s += float(np.count_nonzero(over)) * scenario.scrape_s
        self.timeline.times_s.append(self.now_s)
        self.timeline.usage.append(np.where(self.up, usage, np.nan))
        reading = np.minimum(self.load, 100.0)
        if scenario.noise:
            reading += self._noise.uniform(-scenario.noise, scenario.noise, reading.shape)
            np.clip(reading, 0.0, 100.0, out=reading)
        speaks = self.up & np.array([state == "speaking" for state in self.exporter])
        self._at(self.now_s + scenario.lag_s, self._seen, reading, speaks)
        self._at(self.now_s + scenario.scrape_s, self._scrape)

    def _seen(self, reading: NDArray[np.float64], speaks: NDArray[np.bool_]) -> None:
        self._samples.append((self.now_s, reading, speaks))

    def _open_window(self, start_s: float) -> None:
        self._window_start_s = start_s
        self._samples.clear()

    def _averages(self) -> tuple[dict[str, Points | None], dict[str, float]]:
        """Return each node's averages, and for those that leave out early samples when theirs begin.

        R6 wants two thirds of the scrapes that a window should hold; R5 wants those after the last change, or else
        all of them.
        """
        needed = 2 / 3 * (self.scenario.window_s // self.scenario.scrape_s)
        times = np.array([time_s for time_s, _, _ in self._samples])
        readings = np.array([reading for _, reading, _ in self._samples])
        counted = np.array([speaks for _, _, speaks in self._samples])
        settles = np.array([self.ledger.settles_s(name) for name in self.names])
        free = counted & (times[:, None] >= settles[None, :])
        enough = free.sum(axis=0) >= needed
        counted = np.where(enough, free, counted)
        counts = counted.sum(axis=0)
        means = np.where(counted[:, None, :], readings, 0.0).sum(axis=0) / np.maximum(counts, 1)
        averages: dict[str, Points | None] = {}
        for name, read, count, values in zip(
            self.names, self._read, counts.tolist(), means.T.tolist(), strict=True
        ):
            shown = dict(zip(self.signals, values, strict=True))
            averages[name] = {signal: shown[signal] for signal in read} if count >= needed else None
        late = enough & (settles > self._window_start_s)
        return averages, {self.names[number]: float(settles[number]) for number in np.flatnonzero(late)}

    # -- the balancer ------------------------------------------------------------------------------------------

    def _loop(self, number: int) -> bool:
        """Observe, plan and act; say whether nothing can change any more by itself."""
        averages, late = self._averages()
        self.ledger.window(self._window_start_s, averages, late)
        plan = self.planner(self._snapshot(averages), self.rules, self.rng)
        self.plans.append(plan)
        for move in plan.moves:
            self._carry_out(move)
        if plan.moves or self._hot():
            self._last_busy_loop = number
        under_way = any(job.phase is not Phase.RUNNING for job in self.jobs)
        return not (plan.moves or under_way or any(veto.reason in PASSING for veto in plan.vetoes))

    def _hot(self) -> bool:
        """Say whether a node's true load is over threshold + hysteresis."""
        limit = self.scenario.threshold + self.scenario.hysteresis + ROUNDING
        return bool(np.any((self.load > limit) & self.up))

    def _each_signal(self) -> list[tuple[list[float], list[float]]]:
        """Return all jobs' works and all nodes' speeds, for each signal by itself."""
        return list(zip(self.work.T.tolist(), self.speeds.tolist(), strict=True))

    def _snapshot(self, averages: dict[str, Points | None]) -> Snapshot:
        nodes = []
        for number, name in enumerate(self.names):
            down_s = self._down_s(number)
            found = averages[name]
            nodes.append(
                NodeState(
                    name,
                    max(found.values()) if found else None,
                    why_unknown="no valid window",
                    signals=found or {},
                    speeds={signal: self.ledger.speed(name, signal) for signal in self._read[number]},
                    ready=down_s == 0.0,
                    down_s=down_s,
                    cordoned=self.cordoned[number],
                    history=self.ledger.node(name),
                )
            )
        return Snapshot(nodes, [self._seen_job(job) for job in self.jobs], self.now_s)

    def _down_s(self, node: int) -> float:
        """Return for how long the API server has called a node NotReady."""
        lost_s = self.down_at_s[node]
        return 0.0 if lost_s is None else max(0.0, self.now_s - lost_s - self.scenario.notready_s)

    def _seen_job(self, job: _SimulatedJob) -> StreamState:
        history = self.ledger.stream(job.stream)
        if job.phase is Phase.RUNNING and job.life == 0 and history is NO_HISTORY:
            return self._untouched[job.stream]
        return self._view(job, history)

    def _view(self, job: _SimulatedJob, history: StreamHistory) -> StreamState:
        failing_s = None if job.failing_since_s is None else self.now_s - job.failing_since_s
        moving = job.settled_s > self.now_s
        return StreamState(job.stream, self.names[job.node], job.phase, failing_s, moving=moving, history=history)

    # -- the report --------------------------------------------------------------------------------------------

    def _result(self, loops: int) -> Result:
        scenario = self.scenario
        for job in self.jobs:
            self._end_downtime(job)
        moves = [move for _, move in self.timeline.moves]
        offloads = Counter(move.stream for move in moves if move.kind is MoveKind.OFFLOAD)
        on = [job.runs_on for job in self.jobs]
        left = np.max([surplus_jobs(*alone, on, scenario.threshold) for alone in self._each_signal()], axis=0)
        return Result(
            scenario=scenario,
            seed=self.seed,
            bounds=self.bounds,
            feasible=fits(self.work.tolist(), self.speeds.T.tolist(), self.foreign.T.tolist(), scenario.threshold),
            stable=not self._hot() and self._last_busy_loop < loops,
            loops=loops,
            loops_to_stable=self._last_busy_loop + 1,
            moves=len(moves),
            moves_by_kind=dict(Counter(move.kind.value for move in moves)),
            repeated=sum(offloads.values()) - len(offloads),
            overloaded_node_s=self._overloaded_node_s,
            downtime_s=sum(job.downtime_s for job in self.jobs),
            longest_downtime_s=max((job.longest_downtime_s for job in self.jobs), default=0.0),
            unplaceable=int(left.sum()),
            max_load=float(np.max(np.where(self.up, self.load, 0.0))),
            vetoes=dict(Counter(veto.reason.value for plan in self.plans for veto in plan.vetoes)),
            timeline=self.timeline,
        )


def _plan_nothing(snapshot: Snapshot, rules: Rules, rng: Random) -> Plan:
    """Policy ``none``: watch only."""
    del rng
    hot = [node for node in snapshot.nodes if node.usage is not None and node.usage > rules.threshold]
    return Plan(overloaded=tuple(node.name for node in hot))


def simulate(scenario: Scenario, seeds: Sequence[int], planner: Planner | None = None) -> list[Result]:
    """Run a scenario once for each seed."""
    return [Simulation(scenario, seed, planner).run() for seed in seeds]
