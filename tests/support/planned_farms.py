"""Farms to plan for: exact ones, and any that a loop could see."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random

from hypothesis import strategies as st

from posture.planning.model import (
    ONE_SIGNAL,
    Keda,
    Move,
    NodeHistory,
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

README = Rules(policy=Policy.README)
GUARDED = Rules()
SPEEDS = (1.0, 2.0, 4.0)
DEAD_KEDA = Keda(last_active_age_s=71.0)
DEAD_KEDAS = [DEAD_KEDA, Keda(paused=True), Keda(active=False), Keda(ready=False)]


def known(work: float, **rest: object) -> StreamHistory:
    """Return the history of a stream whose work is known, in a farm with one signal."""
    return StreamHistory(work={ONE_SIGNAL: work}, **rest)  # type: ignore[arg-type]


def farm(loads: dict[str, list[float]], speeds: dict[str, float] | None = None, **rest: object) -> Snapshot:
    """Return a farm in which each node's usage is the sum of its jobs, whose works are known."""
    speeds = speeds or {}
    nodes, jobs = [], []
    for name, works in loads.items():
        speed = speeds.get(name, 1.0)
        nodes.append(NodeState(name, sum(works) / speed, speed=speed))
        jobs += [StreamState(f"{name}.{i}", name, history=known(work)) for i, work in enumerate(works)]
    return Snapshot(nodes, jobs, **rest)  # type: ignore[arg-type]


def farm_by_signal(
    loads: Mapping[str, Sequence[Points]],
    reads: Mapping[str, Sequence[str]] | None = None,
    speeds: Mapping[str, Points] | None = None,
    **rest: object,
) -> Snapshot:
    """Return a farm in which each signal of a node is the sum of its jobs, whose works are known in all signals.

    Args:
        loads: node -> its jobs' works.
        reads: node -> the signals that it is read by; else all that its jobs have.
        speeds: node -> its speed in each signal, else 1.
    """
    reads, speeds = reads or {}, speeds or {}
    every = sorted({signal for works in loads.values() for work in works for signal in work})
    nodes, jobs = [], []
    for name, works in loads.items():
        fast = speeds.get(name, {})
        averages = {
            signal: sum(work[signal] for work in works) / fast.get(signal, 1.0) for signal in reads.get(name, every)
        }
        nodes.append(NodeState(name, max(averages.values()), signals=averages, speeds=fast))
        jobs += [StreamState(f"{name}.{i}", name, history=StreamHistory(work=work)) for i, work in enumerate(works)]
    return Snapshot(nodes, jobs, **rest)  # type: ignore[arg-type]


def after(snapshot: Snapshot, move: Move) -> Snapshot:
    """Return the farm after a move, its loads exactly as expected."""
    relief = {signal: -points for signal, points in move.relief.items()}
    changes = {move.source: relief, move.destination: move.cost}
    nodes = []
    for node in snapshot.nodes:
        change = changes.get(node.name, {})
        averages = {one: max(0.0, points + change.get(one, 0.0)) for one, points in node.averages.items()}
        usage = max(averages.values(), default=0.0)
        nodes.append(dataclasses.replace(node, usage=usage, signals=averages if node.signals else {}))
    jobs = [
        dataclasses.replace(job, node=move.destination) if job.stream == move.stream else job
        for job in snapshot.jobs
    ]
    return dataclasses.replace(snapshot, nodes=nodes, jobs=jobs)


def any_farm(n: int, n_jobs: int, seed: int) -> Snapshot:
    """Anything that a cluster may show, quiet or in trouble; from a seed, which is far faster than single draws."""
    rng = Random(seed)
    trouble = rng.choice([0.1, 0.3, 1.0])

    def odd(chance: float) -> bool:
        return rng.random() < chance * trouble

    names = [f"n{i}" for i in range(n)]
    nodes = [any_node(rng, odd, name) for name in names]
    jobs = [any_job(rng, odd, f"pi{number}", names) for number in range(n_jobs)]
    return Snapshot(nodes, jobs, now_s=10_000.0, contact_s=30.0 if odd(0.3) else math.inf)


def any_node(rng: Random, odd: Callable[[float], bool], name: str) -> NodeState:
    ready = not odd(0.2)
    return NodeState(
        name,
        None if odd(0.2) else rng.choice([0.0, 50.0, 100.0, *(rng.uniform(0, 100) for _ in range(8))]),
        speed=rng.choice(SPEEDS),
        ready=ready,
        down_s=0.0 if ready else rng.uniform(0, 200),
        cordoned=odd(0.2),
        labelled=not odd(0.2),
        taints=frozenset({"a=b:NoSchedule"}) if odd(0.4) else frozenset(),
        free={"cpu": rng.choice([0.0, 1.0])} if odd(0.5) else None,
        history=NodeHistory(
            clean=not odd(0.5),
            spoiled_windows=rng.randint(0, 4),
            over_before=rng.randint(0, 4),
            useless_moves=rng.choice([1, 2]) if odd(0.4) else 0,
        ),
    )


def any_job(rng: Random, odd: Callable[[float], bool], stream: str, names: list[str]) -> StreamState:
    return StreamState(
        stream,
        rng.choice(names),
        rng.choice(list(Phase)) if odd(0.4) else Phase.RUNNING,
        failing_s=rng.choice([10.0, 500.0, 2000.0]) if odd(0.4) else None,
        pulling=rng.random() < 0.5,
        pinned=odd(0.2),
        moving=odd(0.2),
        tolerates=rng.choice([frozenset(), frozenset({"a=b:NoSchedule"})]),
        requests=rng.choice([{}, {"cpu": 0.6}]),
        barred=frozenset(rng.sample(names, 1 if odd(0.4) else 0)),
        keda=rng.choice(DEAD_KEDAS) if odd(0.5) else Keda(),
        history=StreamHistory(
            work=rng.choice([{}, {ONE_SIGNAL: rng.uniform(0.5, 80)}, {ONE_SIGNAL: rng.uniform(0.5, 20)}]),
            moves=rng.randint(0, 3) if odd(0.6) else 0,
            last_move_s=rng.uniform(8_000, 10_000),
            origin=rng.choice(["", *names]),
            tried=odd(0.5),
            closed={name: (rng.uniform(0, 20_000), 1) for name in rng.sample(names, 1 if odd(0.5) else 0)},
        ),
    )


ANY_FARM = st.builds(any_farm, st.integers(1, 7), st.integers(0, 12), st.integers(0, 2**32))
RULES = st.builds(
    Rules,
    policy=st.sampled_from([Policy.GUARDED, Policy.GUARDED, Policy.README]),
    threshold=st.sampled_from([50.0, 30.0, 80.0, 50.0, 0.0]),
    hysteresis=st.sampled_from([0.0, 0.0, 5.0]),
    dwell=st.sampled_from([1, 1, 3]),
)
SEEDS = st.integers(0, 2**32).map(Random)


def reasons(plan: Plan) -> Counter[VetoReason]:
    return Counter(veto.reason for veto in plan.vetoes)


def could_run(job: StreamState, node: NodeState, now_s: float) -> bool:
    """R7 in other words than the planner's."""
    closed_until = job.history.closed.get(node.name, (0.0, 0))[0]
    return (
        node.ready
        and not node.cordoned
        and node.labelled
        and not (node.taints - job.tolerates)
        and node.name not in job.barred
        and closed_until <= now_s
        and (node.free is None or node.free.get("cpu", 0) >= job.requests.get("cpu", 0))
    )


def lost(n: int, dead: int, jobs: int, **rest: object) -> Snapshot:
    """Return n equal nodes, the first of them lost with so many streams on each."""
    nodes = [
        NodeState(f"n{i}", None, ready=False, down_s=61.0) if i < dead else NodeState(f"n{i}", 10.0 + i)
        for i in range(n)
    ]
    streams = [StreamState(f"pi{d}-{i}", f"n{d}") for d in range(dead) for i in range(jobs)]
    return Snapshot(nodes, streams, **rest)  # type: ignore[arg-type]
