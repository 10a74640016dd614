#!/usr/bin/env python3
"""Compare balancing policies on simulated farms, side by side; one table.

    python3 bench/scheduling.py
    python3 bench/scheduling.py --seeds 3 --large-seeds 1
    python3 bench/scheduling.py --planner

Policies: none; readme; guarded; guarded+ (dwell 2, hysteresis 2.5, as docs/balancing.md sets them for +-3 points of
noise); and two of Kubernetes' own, written again from their documentation:

- descheduler: LowNodeUtilization with usage from Prometheus. Every 5 minutes, if some node is under ``thresholds``,
  each node over ``targetThresholds`` loses one pod (a pod's own usage isn't known there), and kube-scheduler places
  it by requests: where the fewest pods are. targetThresholds is the farm's threshold, thresholds 10 points less.
- koordinator: LowNodeLoad. Every 2 minutes; a node that was over ``highThresholds`` in more than 5 checks in a row
  loses its heaviest pods until it is under, while the nodes under ``lowThresholds`` have headroom; load-aware
  scheduling places them on the least used node. It is given each pod's true load. Same thresholds.

Columns, means over the seeds: stable: share of runs that end with no node over the threshold
(+ hysteresis) and nothing to move;
loops: until then; moves: all; repeats: moves of a stream that had been moved before; over: node-seconds over the
threshold; down: seconds without a pod, all streams together; max: fullest node at the end, in points. /best: the
same divided by what nobody can beat (posture/simulator/scenario.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from posture.planning.model import (
    Move,
    MoveKind,
    NodeState,
    Plan,
    Policy,
    Rules,
    Snapshot,
    StreamHistory,
    StreamState,
)
from posture.planning.offloads import plan_offloads
from posture.settings.flags import whole
from posture.simulator.scenario import Scenario, read_scenario, scenario_from
from posture.simulator.simulation import Result, Simulation

SCENARIOS = ("seven-jetsons", "ten-equal", "six-idle", "thousand")
LARGE = "thousand"
NOISES = (0, 3)
COLUMNS = (
    *("scenario", "noise", "policy", "stable", "loops", "/best", "moves", "/best", "repeats"),
    *("over", "down", "max", "/best", "seeds", "s/run"),
)
LOW = 10.0
"""Points by which the lower threshold of both foreign policies lies under the farm's."""


class Foreign:
    """A policy of somebody else's: it sees the same windows, in its own rhythm."""

    every_s: float

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.next_s = 0.0

    def __call__(self, snapshot: Snapshot, rules: Rules, rng: Random) -> Plan:
        """Plan one loop; in most of them it isn't its turn."""
        hot = [node for node in snapshot.nodes if node.usage is not None and node.usage > rules.threshold]
        hot.sort(key=lambda node: -(node.usage or 0.0))
        moves: list[Move] = []
        if snapshot.now_s >= self.next_s:
            self.next_s = snapshot.now_s + self.every_s
            low = [node for node in snapshot.nodes if (node.usage or 0.0) < rules.threshold - LOW]
            moves = self.evict(snapshot, rules, rng, hot, low)
        return Plan(tuple(moves), overloaded=tuple(node.name for node in hot))

    def evict(
        self, snapshot: Snapshot, rules: Rules, rng: Random, hot: list[NodeState], low: list[NodeState]
    ) -> list[Move]:
        """Return what is evicted, and where the scheduler puts it."""
        raise NotImplementedError

    def move(self, job: StreamState, destination: str) -> Move:
        """Return an eviction as a move."""
        return Move(MoveKind.OFFLOAD, job.stream, job.node, destination, {}, {}, None, None, "")


class Descheduler(Foreign):
    """LowNodeUtilization, usage by Prometheus."""

    every_s = 300.0

    def evict(
        self, snapshot: Snapshot, rules: Rules, rng: Random, hot: list[NodeState], low: list[NodeState]
    ) -> list[Move]:
        """One pod from each hot node; kube-scheduler counts pods."""
        if not low:
            return []
        pods = Counter(job.node for job in snapshot.jobs)
        names = [node.name for node in snapshot.nodes]
        there: dict[str, list[StreamState]] = {}
        for job in snapshot.jobs:
            there.setdefault(job.node, []).append(job)
        moves = []
        for node in hot:
            if not there.get(node.name):
                continue
            job = rng.choice(there[node.name])
            pods[node.name] -= 1
            fewest = min(pods[name] for name in names)
            destination = rng.choice([name for name in names if pods[name] == fewest])
            pods[destination] += 1
            moves.append(self.move(job, destination))
        return moves


class Koordinator(Foreign):
    """LowNodeLoad with load-aware scheduling."""

    every_s = 120.0
    abnormal_checks = 5

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation)
        self.abnormal: Counter[str] = Counter()

    def evict(
        self, snapshot: Snapshot, rules: Rules, rng: Random, hot: list[NodeState], low: list[NodeState]
    ) -> list[Move]:
        """The heaviest pods of each node that has been hot for long, to the least used node."""
        self.abnormal = Counter({node.name: self.abnormal[node.name] + 1 for node in hot})
        truth = self.simulation
        speed = dict(zip(truth.names, truth.speeds[0].tolist(), strict=True))
        usage = {node.name: node.usage or 0.0 for node in snapshot.nodes}
        headroom = sum(rules.threshold - usage[node.name] for node in low)
        there: dict[str, list[StreamState]] = {}
        for job in snapshot.jobs:
            there.setdefault(job.node, []).append(job)
        moves = []
        for node in hot:
            if self.abnormal[node.name] <= self.abnormal_checks:
                continue
            for job in sorted(there.get(node.name, ()), key=lambda job: -truth.by_stream[job.stream].work[0]):
                if usage[node.name] <= rules.threshold or headroom <= 0:
                    break
                work = float(truth.by_stream[job.stream].work[0])
                least = min(usage.values())
                destination = rng.choice([name for name in usage if usage[name] == least])
                usage[node.name] -= work / speed[node.name]
                usage[destination] += work / speed[destination]
                headroom -= work / speed[destination]
                moves.append(self.move(job, destination))
        return moves


FOREIGN: dict[str, type[Foreign]] = {"descheduler": Descheduler, "koordinator": Koordinator}
POLICIES = ("none", "readme", "guarded", "guarded+", *FOREIGN)


def scenario_for(name: str, policy: str, noise: float) -> Scenario:
    """Return a scenario under a policy; with noise it runs all its loops."""
    given = read_scenario(ROOT / "scenarios" / f"{name}.yaml")
    given |= {"noise": noise, "loops": 60}
    if policy == "guarded+":
        given |= {"dwell": 2, "hysteresis": 2.5}
    given["policy"] = "guarded" if policy in FOREIGN else policy.rstrip("+")
    return scenario_from(given, name)


def run(name: str, policy: str, noise: float, seeds: Sequence[int]) -> str:
    """Run one line of the table."""
    scenario = scenario_for(name, policy, noise)
    results = []
    started = time.perf_counter()
    for seed in seeds:
        simulation = Simulation(scenario, seed)
        if policy in FOREIGN:
            simulation.planner = FOREIGN[policy](simulation)
        simulation.patient = True  # all policies are watched for the same time
        results.append(simulation.run())
    return line(name, policy, noise, results, (time.perf_counter() - started) / len(results))


def line(name: str, policy: str, noise: float, results: Sequence[Result], seconds: float) -> str:
    """Return a row of the table."""

    def mean(value: Callable[[Result], float]) -> float:
        return statistics.fmean(value(result) for result in results)

    moves, best_moves = mean(lambda r: r.moves), mean(lambda r: r.bounds.moves)
    loops, best_loops = mean(lambda r: r.loops_to_stable), mean(lambda r: r.bounds.loops)
    load, best_load = mean(lambda r: r.max_load), mean(lambda r: r.bounds.max_load)
    cells = [
        name,
        f"{noise:g}",
        policy,
        f"{mean(lambda r: r.stable):.0%}",
        f"{loops:.1f}",
        f"{loops / best_loops:.1f}",
        f"{moves:.1f}",
        f"{moves / best_moves:.2f}",
        f"{mean(lambda r: r.repeated):.1f}",
        f"{mean(lambda r: r.overloaded_node_s):.0f}",
        f"{mean(lambda r: r.downtime_s):.0f}",
        f"{load:.1f}",
        f"{load / best_load:.2f}",
        f"{len(results)}",
        f"{seconds:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def compare(seeds: int, large_seeds: int, workers: int) -> None:
    """Print the table."""
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    with ProcessPoolExecutor(workers) as pool:
        rows = [
            pool.submit(run, name, policy, noise, range(large_seeds if name == LARGE else seeds))
            for name in SCENARIOS
            for noise in NOISES
            for policy in POLICIES
        ]
        for row in rows:
            print(row.result(), flush=True)


def planner_speed() -> None:
    """Print how much of a core's time one plan of 10,000 nodes and 100,000 jobs takes: the best of five."""
    print("| farm | policy | overloaded | moves | seconds |")
    print("|---|---|---|---|---|")
    farms = {"a fifth overloaded": large_farm(4.0), "half overloaded": large_farm(4.95)}
    farms["and 500 nodes lost"] = dataclasses.replace(
        farms["a fifth overloaded"],
        nodes=[
            dataclasses.replace(node, usage=None, ready=False, down_s=99.0) if number < 500 else node
            for number, node in enumerate(farms["a fifth overloaded"].nodes)
        ],
    )
    for what, snapshot in farms.items():
        for policy in Policy:
            times = []
            for _ in range(5):
                started = time.process_time()
                plan = plan_offloads(snapshot, Rules(policy=policy), Random(1))
                times.append(time.process_time() - started)
            print(f"| {what} | {policy.value} | {len(plan.overloaded)} | {len(plan.moves)} | {min(times):.2f} |")


def large_farm(mean: float) -> Snapshot:
    """Return 10,000 nodes with ten jobs each on average, of so many points each on average."""
    rng = Random(1)
    nodes, jobs = [], []
    homes = [rng.randrange(10_000) for _ in range(100_000)]
    usage = [0.0] * 10_000
    for number, home in enumerate(homes):
        work = mean * rng.uniform(0.3, 1.7)
        usage[home] += work
        jobs.append(
            StreamState(f"pi{number}", f"n{home}", requests={"cpu": 1.0}, history=StreamHistory(work={"": work}))
        )
    nodes = [NodeState(f"n{number}", min(100.0, points), free={"cpu": 20.0}) for number, points in enumerate(usage)]
    return Snapshot(nodes, jobs)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="Compare balancing policies on simulated farms.")
    parser.add_argument("--seeds", type=whole, default=30, help="runs of each line (default: 30)")
    parser.add_argument("--large-seeds", type=whole, default=4, help="the same for 1,000 nodes (default: 4)")
    parser.add_argument("--workers", type=whole, default=2, help="processes (default: 2)")
    parser.add_argument(
        "--planner", action="store_true", help="time one plan of 10,000 nodes x 100,000 jobs instead"
    )
    flags = parser.parse_args()
    if flags.planner:
        planner_speed()
    else:
        compare(flags.seeds, flags.large_seeds, flags.workers)


if __name__ == "__main__":
    main()
