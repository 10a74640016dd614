"""The planner against its rules, by property: scheduling.md's table R1 to R15, and the bound of R1 and R2."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from posture.planning.ledger import Ledger
from posture.planning.model import (
    Keda,
    Move,
    MoveKind,
    NodeHistory,
    NodeState,
    Phase,
    Plan,
    Policy,
    Rules,
    Snapshot,
    StreamHistory,
    StreamState,
    VetoReason,
)
from posture.planning.offloads import plan_offloads
from posture.planning.spread import even_spread

property_test = settings(
    max_examples=500 if os.environ.get("CI") else 100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
README = Rules(policy=Policy.README)
GUARDED = Rules()
LIMIT = GUARDED.threshold + 1e-5
SPEEDS = (1.0, 2.0, 4.0)
DEAD_KEDA = Keda(last_active_age_s=71.0)
DEAD_KEDAS = [DEAD_KEDA, Keda(paused=True), Keda(active=False), Keda(ready=False)]


# -- farms -----------------------------------------------------------------------------------------------------


def farm(loads: dict[str, list[float]], speeds: dict[str, float] | None = None, **rest: object) -> Snapshot:
    """Return a farm in which each node's usage is the sum of its jobs, whose works are known."""
    speeds = speeds or {}
    nodes, jobs = [], []
    for name, works in loads.items():
        speed = speeds.get(name, 1.0)
        nodes.append(NodeState(name, sum(works) / speed, speed=speed))
        jobs += [StreamState(f"{name}.{i}", name, history=StreamHistory(work=work)) for i, work in enumerate(works)]
    return Snapshot(nodes, jobs, **rest)  # type: ignore[arg-type]


@st.composite
def exact_farms(draw: st.DrawFn) -> Snapshot:
    """Nodes of several speeds whose usage is exactly that of their jobs."""
    n = draw(st.integers(1, 8))
    works = st.lists(st.floats(1, 40), max_size=5)
    loads = {f"n{i}": draw(works) for i in range(n)}
    return farm(loads, {name: draw(st.sampled_from(SPEEDS)) for name in loads})


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
        keda=rng.choice([DEAD_KEDA, Keda(paused=True), Keda(active=False), Keda(ready=False)])
        if odd(0.5)
        else Keda(),
        history=StreamHistory(
            work=rng.choice([None, rng.uniform(0.5, 80), rng.uniform(0.5, 20)]),
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


def after(snapshot: Snapshot, move: Move) -> Snapshot:
    """Return the farm after a move, its loads exactly as expected."""
    change = {move.source: -move.relief, move.destination: move.cost}
    nodes = [
        dataclasses.replace(node, usage=max(0.0, (node.usage or 0.0) + change.get(node.name, 0.0)))
        for node in snapshot.nodes
    ]
    jobs = [
        dataclasses.replace(job, node=move.destination) if job.stream == move.stream else job
        for job in snapshot.jobs
    ]
    return dataclasses.replace(snapshot, nodes=nodes, jobs=jobs)


def passes_on(move: Move) -> bool:
    """Say whether it is a move of R3: it leaves its destination over the threshold."""
    assert move.destination_usage is not None
    return move.destination_usage + move.cost > LIMIT


def reasons(plan: Plan) -> Counter[VetoReason]:
    return Counter(veto.reason for veto in plan.vetoes)


# -- even spread -----------------------------------------------------------------------------------------------


@property_test
@given(st.sets(st.integers(1, 99).map("pi{}".format)), st.lists(st.floats(0, 100), min_size=1), SEEDS)
def test_even_spread_gives_each_node_floor_or_ceil_and_the_extras_to_the_lowest(streams, points, rng) -> None:
    usage = {f"n{i}": value for i, value in enumerate(points)}
    placed = even_spread(streams, usage, rng)
    assert set(placed) == streams
    counts = Counter(placed.values())
    floor, extras = divmod(len(streams), len(usage))
    assert all(counts[name] in (floor, floor + 1) for name in usage)
    with_extra = [usage[name] for name in usage if counts[name] == floor + 1]
    without = [usage[name] for name in usage if counts[name] == floor]
    assert len(with_extra) == extras
    assert max(with_extra, default=0) <= min(without, default=100)


def test_even_spread_breaks_ties_uniformly() -> None:
    # 2 extras on 5 equal nodes: 10 pairs; chi-square with 9 degrees of freedom is under 27.9 with p = 0.999
    usage = {"a": 20.0, "b": 20.0, "c": 20.0, "d": 20.0, "e": 20.0, "hot": 30.0}
    seen: Counter[tuple[str, ...]] = Counter()
    for seed in range(4000):
        placed = even_spread([f"pi{i}" for i in range(8)], usage, Random(seed))
        counts = Counter(placed.values())
        seen[tuple(sorted(name for name in counts if counts[name] == 2))] += 1
    assert len(seen) == 10
    assert sum((count - 400) ** 2 / 400 for count in seen.values()) < 27.9


@property_test
@given(st.lists(st.text("ab", min_size=1), unique=True), st.integers(1, 6), st.integers(0, 99))
def test_even_spread_depends_on_names_and_seed_and_not_on_the_order_of_its_input(streams, n, seed) -> None:
    usage = {f"n{i}": float(i % 2) for i in range(n)}
    backwards = dict(reversed(usage.items()))
    assert even_spread(streams, usage, Random(seed)) == even_spread(streams[::-1], backwards, Random(seed))


@property_test
@given(st.integers(0, 20), st.integers(1, 5), st.data())
def test_even_spread_fills_up_around_pinned_streams(n_streams, n_nodes, data) -> None:
    streams = [f"pi{i}" for i in range(n_streams)]
    usage = {f"n{i}": 10.0 * i for i in range(n_nodes)}
    pins = data.draw(st.dictionaries(st.sampled_from(streams or ["none"]), st.sampled_from(sorted(usage))))
    placed = even_spread(streams, usage, Random(0), pins)
    assert all(placed[stream] == node for stream, node in pins.items() if stream in streams)
    pinned = Counter(node for stream, node in pins.items() if stream in streams)
    counts = Counter(placed.values())
    grown = [counts[name] for name in usage if counts[name] > pinned[name]]
    assert max(grown, default=0) <= min(counts[name] for name in usage) + 1


def test_even_spread_without_any_node_is_an_error_and_without_any_stream_is_empty() -> None:
    with pytest.raises(ValueError, match="no node has a valid metric"):
        even_spread(["pi1"], {}, Random(0))
    assert even_spread([], {}, Random(0)) == {}


# -- the four steps ----------------------------------------------------------------------------------------------


def test_readme_moves_one_job_from_each_overloaded_node_to_the_lowest_hottest_first() -> None:
    snapshot = farm({"warm": [30.0, 30.0], "hot": [40.0, 40.0], "cold": [10.0], "mild": [20.0]})
    plan = plan_offloads(snapshot, README, Random(1))
    assert [(move.source, move.destination) for move in plan.moves] == [("hot", "cold"), ("warm", "cold")]
    assert plan.overloaded == ("hot", "warm")
    assert not plan.vetoes


def test_readme_breaks_ties_uniformly() -> None:
    snapshot = farm({"hot": [60.0], "a": [10.0], "b": [10.0], "c": [10.0], "d": [11.0]})
    seen = Counter(plan_offloads(snapshot, README, Random(seed)).moves[0].destination for seed in range(3000))
    assert set(seen) == {"a", "b", "c"}
    assert sum((count - 1000) ** 2 / 1000 for count in seen.values()) < 13.8  # 2 degrees of freedom, p = 0.999


def test_guarded_breaks_ties_uniformly() -> None:
    snapshot = farm({"hot": [40.0, 20.0], "a": [10.0], "b": [10.0], "c": [10.0], "d": [11.0]})
    seen = Counter(plan_offloads(snapshot, GUARDED, Random(seed)).moves[0].destination for seed in range(3000))
    assert set(seen) == {"a", "b", "c"}
    assert sum((count - 1000) ** 2 / 1000 for count in seen.values()) < 13.8


@property_test
@given(ANY_FARM, RULES, st.integers(0, 2**32))
def test_the_same_snapshot_and_seed_give_the_same_plan_in_whatever_order(snapshot, rules, seed) -> None:
    backwards = dataclasses.replace(snapshot, nodes=snapshot.nodes[::-1], jobs=snapshot.jobs[::-1])
    one, other = (plan_offloads(farm_, rules, Random(seed)) for farm_ in (snapshot, backwards))
    assert one.moves == other.moves
    assert sorted(map(str, one.vetoes)) == sorted(map(str, other.vetoes))


@property_test
@given(ANY_FARM, RULES, SEEDS)
def test_a_source_gives_up_at_most_one_job_and_is_no_destination_in_the_same_loop(snapshot, rules, rng) -> None:
    moves = [move for move in plan_offloads(snapshot, rules, rng).moves if move.kind is MoveKind.OFFLOAD]
    sources = [move.source for move in moves]
    assert len(set(sources)) == len(sources)
    assert not set(sources) & {move.destination for move in moves}
    usage = {node.name: node.usage for node in snapshot.nodes}
    assert all(usage[move.source] > rules.threshold >= usage[move.destination] - 1e-6 for move in moves)


@property_test
@given(ANY_FARM, RULES, SEEDS)
def test_an_overloaded_node_is_never_passed_over_in_silence(snapshot, rules, rng) -> None:
    plan = plan_offloads(snapshot, rules, rng)
    spoken = {move.source for move in plan.moves} | {veto.node for veto in plan.vetoes}
    assert set(plan.overloaded) <= spoken or VetoReason.ALL_OVERLOADED in reasons(plan)
    assert all(str(veto) for veto in plan.vetoes)


@property_test
@given(exact_farms(), st.integers(0, 2**32))
def test_the_first_move_of_guarded_differs_from_readme_only_by_vetoes_and_the_choice_of_job(farm_, seed) -> None:
    readme, guarded = (plan_offloads(farm_, rules, Random(seed)) for rules in (README, GUARDED))
    assert readme.overloaded == guarded.overloaded
    assume(len({node.speed for node in farm_.nodes}) == 1)
    if guarded.moves and guarded.moves[0].source == readme.moves[0].source:
        usage = {node.name: node.usage for node in farm_.nodes}
        assert usage[guarded.moves[0].destination] == usage[readme.moves[0].destination]


@property_test
@given(ANY_FARM, RULES, SEEDS)
def test_a_pinned_stream_is_never_moved(snapshot, rules, rng) -> None:
    pinned = {job.stream for job in snapshot.jobs if job.pinned}
    assert not pinned & {move.stream for move in plan_offloads(snapshot, rules, rng).moves}


def test_the_smallest_job_that_cures_its_node_moves_else_the_largest_that_fits() -> None:
    cured = plan_offloads(farm({"hot": [30.0, 22.0, 15.0, 1.0], "cold": []}), GUARDED, Random(0))
    assert [move.relief for move in cured.moves] == [22.0]
    eased = plan_offloads(farm({"hot": [45.0, 30.0, 25.0], "cold": [20.0]}), GUARDED, Random(0))
    assert [move.relief for move in eased.moves] == [30.0]


# -- R1, R2, R3 and the bound --------------------------------------------------------------------------------------


@property_test
@given(exact_farms(), SEEDS)
def test_r1_r2_inflow_never_exceeds_headroom_and_no_move_makes_a_node_overloaded(farm_, rng) -> None:
    moves = plan_offloads(farm_, GUARDED, rng).moves
    assume(not any(passes_on(move) for move in moves))
    inflow: defaultdict[str, float] = defaultdict(float)
    for move in moves:
        inflow[move.destination] += move.cost
    usage = {node.name: node.usage or 0.0 for node in farm_.nodes}
    assert all(usage[name] + points <= LIMIT for name, points in inflow.items())


@property_test
@given(exact_farms(), SEEDS)
def test_r3_the_sorted_load_vector_falls_lexicographically_with_each_move(farm_, rng) -> None:
    for move in plan_offloads(farm_, GUARDED, rng).moves:
        before = sorted((node.usage for node in farm_.nodes), reverse=True)
        farm_ = after(farm_, move)
        assert sorted((node.usage for node in farm_.nodes), reverse=True) < before


@property_test
@given(exact_farms(), SEEDS)
def test_r3_is_taken_only_where_nothing_fits(farm_, rng) -> None:
    speeds = {node.name: node.speed for node in farm_.nodes}
    for move in plan_offloads(farm_, GUARDED, rng).moves:
        if passes_on(move):
            usage = {node.name: node.usage for node in farm_.nodes}
            for job in farm_.jobs:
                if job.node == move.source:
                    work = job.history.work
                    fits = [n for n in usage if usage[n] <= LIMIT and usage[n] + work / speeds[n] <= LIMIT - 2e-5]
                    assert not fits
        farm_ = after(farm_, move)


def run_to_the_end(farm_: Snapshot, rng: Random) -> tuple[int, list[Move]]:
    """Return how many loops there were until one had nothing to do, and all moves."""
    moves: list[Move] = []
    for loop in range(1, 200):
        plan = plan_offloads(farm_, GUARDED, rng)
        if not plan.moves:
            return loop, moves
        for move in plan.moves:
            farm_ = after(farm_, move)
        moves += plan.moves
    raise AssertionError("it doesn't end")


def random_farm(rng: Random) -> Snapshot:
    n = rng.randint(2, 12)
    loads = {f"n{i}": [rng.uniform(0.5, 30) for _ in range(rng.randint(0, 8))] for i in range(n)}
    return farm(loads, {name: rng.choice(SPEEDS) for name in loads})


def test_the_static_theorem_holds_on_3000_random_farms() -> None:
    """Each job moves at most once, and loops <= moves + 1, where R3 isn't in play."""
    rng = Random(20261124)
    held, moved = 0, 0
    while held < 3000:
        loops, moves = run_to_the_end(random_farm(rng), rng)
        if any(passes_on(move) for move in moves):
            continue
        streams = [move.stream for move in moves]
        assert len(set(streams)) == len(streams)
        assert loops <= len(moves) + 1
        held += 1
        moved += bool(moves)
    assert moved > 1000


@property_test
@given(st.lists(st.lists(st.floats(0.5, 25), max_size=6), min_size=2, max_size=8), SEEDS)
def test_nothing_is_unplaceable_while_the_mean_and_the_heaviest_job_stay_under_the_threshold(works, rng) -> None:
    """On equal nodes: the lowest one is at or under the mean, so that any job fits there."""
    total = sum(map(sum, works))
    heaviest = max((work for node in works for work in node), default=0.0)
    assume(total / len(works) + heaviest <= GUARDED.threshold)
    farm_ = farm({f"n{i}": node for i, node in enumerate(works)})
    for _ in range(60):
        plan = plan_offloads(farm_, GUARDED, rng)
        assert VetoReason.UNPLACEABLE not in reasons(plan) or plan.moves
        for move in plan.moves:
            farm_ = after(farm_, move)
    assert plan.stable


@property_test
@given(exact_farms(), SEEDS)
def test_r3_it_ends(farm_, rng) -> None:
    run_to_the_end(farm_, rng)


def test_r3_one_heavy_job_alone_is_unplaceable_and_stays() -> None:
    plan = plan_offloads(farm({"a": [80.0], "b": []}), GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan) == {VetoReason.UNPLACEABLE: 1}


def test_r1_moves_that_are_still_warming_up_count_at_their_destination() -> None:
    loads = farm({"hot": [40.0, 20.0], "a": [], "b": [30.0]})
    coming = StreamState("coming", "a", Phase.STARTING, moving=True, history=StreamHistory(work=35.0))
    snapshot = dataclasses.replace(loads, jobs=[*loads.jobs, coming])
    (move,) = plan_offloads(snapshot, GUARDED, Random(0)).moves
    assert move.destination == "b"


# -- R4 to R8 ------------------------------------------------------------------------------------------------------


@property_test
@given(st.sampled_from([60.0, 300.0, 600.0]), st.integers(0, 5), st.floats(0.5, 8), st.sampled_from([60.0, 290.0]))
def test_r4_a_job_moves_no_more_often_than_its_cooldown_allows(base, doublings, hours, step) -> None:
    """Even on a farm that always shows the job's node as the worst one."""
    cap = base * 2**doublings
    rules = Rules(cooldown_base_s=base, cooldown_cap_s=cap)
    ledger = Ledger(rules)
    at, moves, now = "a", 0, 0.0
    while now <= hours * 3600:
        history = dataclasses.replace(ledger.stream("pi1"), work=30.0)
        nodes = [NodeState(name, 60.0 if name == at else 0.0) for name in ("a", "b")]
        plan = plan_offloads(Snapshot(nodes, [StreamState("pi1", at, history=history)], now), rules, Random(0))
        for move in plan.moves:
            ledger.moved(move, now)
            at, moves = move.destination, moves + 1
        now += step
    assert moves <= math.log2(cap / base) + hours * 3600 / cap + 1


@property_test
@given(ANY_FARM, RULES, SEEDS)
def test_r4_r5_nothing_is_offloaded_in_its_cooldown_or_to_or_from_a_spoiled_window(snapshot, rules, rng) -> None:
    assume(rules.policy is Policy.GUARDED)
    nodes = {node.name: node for node in snapshot.nodes}
    jobs = {job.stream: job for job in snapshot.jobs}
    for move in plan_offloads(snapshot, rules, rng).moves:
        if move.kind is MoveKind.OFFLOAD:
            history = jobs[move.stream].history
            waited_s = snapshot.now_s - history.last_move_s
            assert not history.moves or waited_s >= min(4800.0, 300.0 * 2 ** (history.moves - 1))
            assert nodes[move.destination].history.clean
            source = nodes[move.source].history
            assert source.clean or source.spoiled_windows >= 3


def test_r4_a_clock_that_was_a_year_ahead_does_not_hold_a_stream_for_a_year() -> None:
    base, year_s = farm({"hot": [40.0, 20.0], "cold": []}), 31_536_000.0
    for ahead_s, moves in ((-299.0, 0), (0.0, 0), (299.0, 0), (year_s, 1)):
        history = StreamHistory(moves=1, last_move_s=base.now_s + ahead_s, loads={"": 20.0}, work=20.0)
        jobs = [dataclasses.replace(job, history=history) for job in base.jobs]
        plan = plan_offloads(dataclasses.replace(base, jobs=jobs), GUARDED, Random(0))
        assert len(plan.moves) == moves


def test_r5_a_busy_node_is_served_again_after_three_spoiled_windows() -> None:
    base = farm({"hot": [40.0, 20.0], "cold": []})
    for spoiled, moves in ((1, 0), (2, 0), (3, 1)):
        history = NodeHistory(clean=False, spoiled_windows=spoiled)
        nodes = [dataclasses.replace(base.nodes[0], history=history), base.nodes[1]]
        plan = plan_offloads(dataclasses.replace(base, nodes=nodes), GUARDED, Random(0))
        assert len(plan.moves) == moves


def test_r5_it_waits_for_a_node_that_settles_rather_than_passing_the_overload_on() -> None:
    base = farm({"hot": [40.0, 40.0], "full": [35.0], "settling": []})
    settling = dataclasses.replace(base.nodes[2], history=NodeHistory(clean=False, spoiled_windows=1))
    plan = plan_offloads(dataclasses.replace(base, nodes=[*base.nodes[:2], settling]), GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan)[VetoReason.DESTINATION_SETTLING] == 1


@property_test
@given(ANY_FARM, RULES, SEEDS)
def test_r6_a_node_without_a_valid_window_is_in_no_plan(snapshot, rules, rng) -> None:
    """A rescue falls back to such a node only where no other can run the stream."""
    plan = plan_offloads(snapshot, rules, rng)
    nodes = {node.name: node for node in snapshot.nodes}
    jobs = {job.stream: job for job in snapshot.jobs}
    for move in plan.moves:
        job = jobs[move.stream]
        if move.kind is MoveKind.OFFLOAD:
            assert nodes[move.source].usage is not None
        if nodes[move.destination].usage is None:
            assert move.kind is not MoveKind.OFFLOAD
            others = [n for n in nodes.values() if n.usage is not None and could_run(job, n, snapshot.now_s)]
            back = move.kind is MoveKind.RESTART and move.destination == job.history.origin
            arrived = {other.destination for other in plan.moves}
            assert back or all(other.name == job.node or other.name in arrived for other in others)


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


@property_test
@given(ANY_FARM, RULES, SEEDS)
def test_r7_destinations_are_a_subset_of_the_nodes_that_can_run_the_pod(snapshot, rules, rng) -> None:
    nodes = {node.name: node for node in snapshot.nodes}
    jobs = {job.stream: job for job in snapshot.jobs}
    requested: Counter[str] = Counter()
    for move in plan_offloads(snapshot, rules, rng).moves:
        assert could_run(jobs[move.stream], nodes[move.destination], snapshot.now_s)
        assert move.destination != move.source
        if rules.policy is Policy.GUARDED:
            requested[move.destination] += jobs[move.stream].requests.get("cpu", 0)  # type: ignore[assignment]
            free = nodes[move.destination].free
            assert free is None or requested[move.destination] <= free["cpu"]


def test_r7_room_that_this_loop_gave_away_is_gone() -> None:
    base = lost(4, 1, 4)
    nodes = [dataclasses.replace(node, free={"cpu": 1.0}) for node in base.nodes]
    jobs = [dataclasses.replace(job, requests={"cpu": 0.6}) for job in base.jobs]
    plan = plan_offloads(dataclasses.replace(base, nodes=nodes, jobs=jobs), GUARDED, Random(0))
    assert sorted(move.destination for move in plan.moves) == ["n1", "n2", "n3"]
    assert reasons(plan) == {VetoReason.NO_ELIGIBLE_NODE: 1}


def test_r7_a_cordoned_node_may_be_a_source_and_a_notready_one_is_neither() -> None:
    base = farm({"hot": [40.0, 20.0], "cold": []})
    for change, moves in (({"cordoned": True}, 1), ({"ready": False, "down_s": 5.0}, 0)):
        nodes = [dataclasses.replace(base.nodes[0], **change), base.nodes[1]]
        assert len(plan_offloads(dataclasses.replace(base, nodes=nodes), GUARDED, Random(0)).moves) == moves


@property_test
@given(ANY_FARM, RULES, st.integers(0, 2**32), st.sampled_from([0.25, 2.0, 8.0]))
def test_r8_scaling_speeds_and_costs_together_leaves_the_plan_unchanged(snapshot, rules, seed, factor) -> None:
    nodes = [dataclasses.replace(node, speed=node.speed * factor) for node in snapshot.nodes]
    jobs = [
        job
        if job.history.work is None
        else dataclasses.replace(job, history=dataclasses.replace(job.history, work=job.history.work * factor))
        for job in snapshot.jobs
    ]
    scaled = plan_offloads(dataclasses.replace(snapshot, nodes=nodes, jobs=jobs), rules, Random(seed))
    plan = plan_offloads(snapshot, rules, Random(seed))
    assert [(m.stream, m.destination) for m in plan.moves] == [(m.stream, m.destination) for m in scaled.moves]


def test_r8_a_job_that_a_small_board_can_not_carry_fits_a_large_one() -> None:
    snapshot = farm({"nano": [45.0, 20.0], "nano2": [30.0], "agx": [120.0]}, {"agx": 4.0})
    (move,) = plan_offloads(snapshot, GUARDED, Random(0)).moves
    assert (move.destination, move.relief, move.cost) == ("nano2", 20.0, 20.0)
    heavy = farm({"nano": [60.0], "nano2": [30.0], "agx": [120.0]}, {"agx": 4.0})
    (move,) = plan_offloads(heavy, GUARDED, Random(0)).moves
    assert (move.destination, move.relief, move.cost) == ("agx", 60.0, 15.0)


# -- R9 to R12 -----------------------------------------------------------------------------------------------------


@property_test
@given(ANY_FARM, RULES, SEEDS)
def test_r9_no_offload_while_all_are_overloaded_or_prometheus_is_away(snapshot, rules, rng) -> None:
    hot = [dataclasses.replace(node, usage=None if node.usage is None else 99.0) for node in snapshot.nodes]
    blind = [dataclasses.replace(node, usage=None) for node in snapshot.nodes]
    for nodes, reason in ((hot, VetoReason.ALL_OVERLOADED), (blind, VetoReason.NO_METRICS)):
        plan = plan_offloads(dataclasses.replace(snapshot, nodes=nodes), rules, rng)
        assert all(move.kind is not MoveKind.OFFLOAD for move in plan.moves)
        if nodes is blind or any(node.usage is not None for node in nodes):
            assert reasons(plan)[reason] == 1


@property_test
@given(ANY_FARM, RULES, SEEDS)
def test_r12_a_source_was_over_threshold_and_hysteresis_for_the_whole_dwell(snapshot, rules, rng) -> None:
    assume(rules.policy is Policy.GUARDED)
    nodes = {node.name: node for node in snapshot.nodes}
    for move in plan_offloads(snapshot, rules, rng).moves:
        if move.kind is MoveKind.OFFLOAD:
            source = nodes[move.source]
            assert source.usage > rules.threshold + rules.hysteresis
            assert source.history.over_before + 1 >= rules.dwell


def test_r12_a_node_waits_for_dwell_and_hysteresis_and_says_so() -> None:
    rules = Rules(dwell=3, hysteresis=5.0)
    for usage, over_before, reason in (
        (55.0, 9, VetoReason.HYSTERESIS),
        (60.0, 1, VetoReason.DWELL),
        (60.0, 2, None),
    ):
        base = farm({"hot": [usage - 20.0, 20.0], "cold": []})
        nodes = [dataclasses.replace(base.nodes[0], history=NodeHistory(over_before=over_before)), base.nodes[1]]
        plan = plan_offloads(dataclasses.replace(base, nodes=nodes), rules, Random(0))
        assert reasons(plan) == ({} if reason is None else {reason: 1})
        assert bool(plan.moves) == (reason is None)


def test_two_moves_that_change_nothing_make_a_load_somebody_elses() -> None:
    base = farm({"hot": [20.0, 20.0], "cold": []})
    history = NodeHistory(useless_moves=2)
    nodes = [dataclasses.replace(base.nodes[0], usage=90.0, history=history), base.nodes[1]]
    plan = plan_offloads(dataclasses.replace(base, nodes=nodes), GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan) == {VetoReason.NOT_OUR_LOAD: 1}


def test_a_job_with_an_unknown_load_counts_as_its_share_and_moves_once() -> None:
    nodes = [NodeState("hot", 60.0), NodeState("cold", 0.0)]
    fresh = [StreamState(f"pi{i}", "hot") for i in range(3)]
    (move,) = plan_offloads(Snapshot(nodes, fresh), GUARDED, Random(0)).moves
    assert move.relief == 20.0
    tried = [StreamState(f"pi{i}", "hot", history=StreamHistory(tried=True, last_move_s=0.0)) for i in range(3)]
    plan = plan_offloads(Snapshot(nodes, tried, now_s=GUARDED.cooldown_cap_s - 1), GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan) == {VetoReason.LOAD_UNKNOWN: 3}
    # a fault may have cost the lesson
    assert len(plan_offloads(Snapshot(nodes, tried, now_s=GUARDED.cooldown_cap_s), GUARDED, Random(0)).moves) == 1


# -- R13 to R15 ----------------------------------------------------------------------------------------------------


@property_test
@given(st.integers(2, 8), st.data(), SEEDS)
def test_r13_a_stream_that_can_not_start_ends_ready_somewhere_if_any_node_can_run_it(n, data, rng) -> None:
    """Nobody knows which nodes can: only trying tells."""
    names = [f"n{i}" for i in range(n)]
    good = data.draw(st.sets(st.sampled_from(names), min_size=1))
    usage = {name: data.draw(st.floats(0, 100)) for name in names}
    at = data.draw(st.sampled_from(names))
    ledger, now = Ledger(GUARDED), 0.0
    for _ in range(12 * n):
        if at in good:
            return
        now += 180.0
        job = StreamState("pi1", at, Phase.STARTING, failing_s=150.0, history=ledger.stream("pi1"))
        plan = plan_offloads(Snapshot([NodeState(name, usage[name]) for name in names], [job], now), GUARDED, rng)
        for move in plan.moves:
            assert move.kind is MoveKind.RESTART
            ledger.moved(move, now)
            at = move.destination
    raise AssertionError("it never came to a node that can run it")


def stuck(**change: object) -> Snapshot:
    base = farm({"bad": [], "origin": [45.0], "cold": []})
    job = StreamState(
        "pi1", "bad", Phase.PENDING, failing_s=130.0, history=StreamHistory(work=20.0, origin="origin")
    )
    return dataclasses.replace(base, jobs=[*base.jobs, dataclasses.replace(job, **change)])  # type: ignore[arg-type]


def test_r13_a_node_where_two_streams_failed_to_start_is_no_destination_for_a_third() -> None:
    base = farm({"hot": [40.0, 20.0], "bad": [], "mild": [25.0]})
    for failures, destination in ((1, "bad"), (2, "mild")):
        closed = [
            StreamState(f"failed{i}", "mild", history=StreamHistory(work=1.0, closed={"bad": (100.0, 1)}))
            for i in range(failures)
        ]
        plan = plan_offloads(dataclasses.replace(base, jobs=[*base.jobs, *closed], now_s=99.0), GUARDED, Random(0))
        assert [move.destination for move in plan.moves] == [destination]
        assert reasons(plan)[VetoReason.START_FAILURES] == failures - 1


def test_r13_it_goes_back_where_it_came_from_whatever_the_threshold_and_the_cooldown_say() -> None:
    history = StreamHistory(work=20.0, origin="origin", moves=3, last_move_s=0.0)
    (move,) = plan_offloads(stuck(history=history), GUARDED, Random(0)).moves
    assert (move.kind, move.stream, move.destination) == (MoveKind.RESTART, "pi1", "origin")


def test_r13_where_its_origin_can_not_take_it_the_next_best_does() -> None:
    history = StreamHistory(work=20.0, origin="origin", closed={"origin": (1.0, 1)})
    (move,) = plan_offloads(stuck(history=history), GUARDED, Random(0)).moves
    assert move.destination == "cold"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"failing_s": 119.0}, VetoReason.START_GRACE, id="not for long"),
        pytest.param({"failing_s": 899.0, "pulling": True}, VetoReason.START_GRACE, id="its image is pulled"),
        pytest.param({"pinned": True}, VetoReason.PINNED, id="pinned"),
        pytest.param({"keda": DEAD_KEDA}, VetoReason.KEDA_AWAY, id="KEDA is away"),
        pytest.param({"barred": frozenset({"origin", "cold"})}, VetoReason.NO_ELIGIBLE_NODE, id="nowhere to go"),
    ],
)
def test_r13_a_stream_that_stays_where_it_can_not_start_says_why(change, reason) -> None:
    plan = plan_offloads(stuck(**change), GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan) == {reason: 1}


def lost(n: int, dead: int, jobs: int, **rest: object) -> Snapshot:
    """Return n equal nodes, the first of them lost with so many streams on each."""
    nodes = [
        NodeState(f"n{i}", None, ready=False, down_s=61.0) if i < dead else NodeState(f"n{i}", 10.0 + i)
        for i in range(n)
    ]
    streams = [StreamState(f"pi{d}-{i}", f"n{d}") for d in range(dead) for i in range(jobs)]
    return Snapshot(nodes, streams, **rest)  # type: ignore[arg-type]


@property_test
@given(st.integers(2, 8), st.integers(0, 20), SEEDS)
def test_r14_the_streams_of_a_lost_node_are_spread_evenly_in_one_loop(n, jobs, rng) -> None:
    plan = plan_offloads(lost(n, 1, jobs), GUARDED, rng)
    assert {move.stream for move in plan.moves} == {f"pi0-{i}" for i in range(jobs)}
    counts = Counter(move.destination for move in plan.moves)
    floor, extras = divmod(jobs, n - 1)
    assert sorted(counts[f"n{i}"] for i in range(1, n)) == [floor] * (n - 1 - extras) + [floor + 1] * extras
    assert all(counts[f"n{i}"] == floor + 1 for i in range(1, extras + 1))


@property_test
@given(ANY_FARM, SEEDS)
def test_r14_no_stream_of_a_lost_node_stays_while_a_node_could_run_it(snapshot, rng) -> None:
    rooms = [dataclasses.replace(node, free=None) for node in snapshot.nodes]
    snapshot = dataclasses.replace(snapshot, nodes=rooms, contact_s=math.inf)
    gone = {node.name for node in rooms if not node.ready and node.down_s > 60}
    assume(2 * len(gone) <= len(rooms))
    moved = {move.stream for move in plan_offloads(snapshot, GUARDED, rng).moves}
    for job in snapshot.jobs:
        if job.node in gone and not job.pinned and job.stream not in moved:
            assert not any(could_run(job, node, snapshot.now_s) for node in rooms)


def test_r14_a_stream_may_go_where_another_one_is_stuck() -> None:
    nodes = [
        NodeState("odd", 10.0),
        NodeState("lost", None, ready=False, down_s=99.0),
        NodeState("closed", 1.0, cordoned=True),
    ]
    jobs = [StreamState("stuck", "odd", Phase.PENDING, failing_s=200.0), StreamState("homeless", "lost")]
    plan = plan_offloads(Snapshot(nodes, jobs), GUARDED, Random(0))
    assert [(move.stream, move.destination) for move in plan.moves] == [("homeless", "odd")]
    assert reasons(plan) == {VetoReason.NO_ELIGIBLE_NODE: 1}


def test_r14_a_hot_node_that_takes_a_rescued_stream_gives_none_up_in_the_same_loop() -> None:
    base = farm({"hot": [40.0, 20.0], "cold": []})
    nodes = [*base.nodes, NodeState("lost", None, ready=False, down_s=99.0)]
    jobs = [
        *base.jobs,
        StreamState("homeless", "lost", barred=frozenset({"cold"}), history=StreamHistory(work=5.0)),
    ]
    plan = plan_offloads(Snapshot(nodes, jobs), GUARDED, Random(0))
    assert [(move.stream, move.destination) for move in plan.moves] == [("homeless", "hot")]
    assert reasons(plan) == {VetoReason.SETTLING: 1}


def test_r14_ranks_by_the_threshold_and_does_not_forbid() -> None:
    nodes = [
        NodeState("lost", None, ready=False, down_s=90.0),
        NodeState("hot", 70.0),
        NodeState("mild", 45.0),
        NodeState("cold", 5.0),
    ]
    jobs = [StreamState(f"pi{i}", "lost", history=StreamHistory(work=20.0)) for i in range(3)]
    counts = Counter(move.destination for move in plan_offloads(Snapshot(nodes, jobs), GUARDED, Random(0)).moves)
    assert counts == {"cold": 2, "mild": 1}


def test_r14_a_cordoned_node_whose_pod_was_evicted_loses_its_stream_and_a_running_one_stays() -> None:
    nodes = [NodeState("closed", 10.0, cordoned=True), NodeState("open", 10.0)]
    jobs = [
        StreamState("evicted", "closed", Phase.ABSENT),
        StreamState("waits", "closed", Phase.PENDING),
        StreamState("runs", "closed"),
    ]
    plan = plan_offloads(Snapshot(nodes, jobs), GUARDED, Random(0))
    assert {move.stream for move in plan.moves} == {"evicted", "waits"}


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        pytest.param(lost(3, 2, 1), VetoReason.MANY_LOST, id="more than half at once"),
        pytest.param(lost(3, 1, 1, contact_s=59.0), VetoReason.NO_CONTACT, id="our own contact is young"),
    ],
)
def test_r14_trouble_of_our_own_moves_nothing(snapshot, reason) -> None:
    plan = plan_offloads(snapshot, GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan)[reason] >= 1


def test_r14_the_grace_is_kept() -> None:
    nodes = [NodeState("away", None, ready=False, down_s=60.0), NodeState("n1", 10.0), NodeState("n2", 10.0)]
    plan = plan_offloads(Snapshot(nodes, [StreamState("pi1", "away")]), GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan) == {VetoReason.NODE_GRACE: 1}


def test_r13_r14_are_reported_and_not_done_under_readme() -> None:
    for snapshot in (stuck(), lost(3, 1, 2)):
        plan = plan_offloads(snapshot, README, Random(0))
        assert not plan.moves
        assert reasons(plan)[VetoReason.POLICY] >= 1


@property_test
@given(ANY_FARM, RULES, SEEDS)
def test_r15_no_job_is_deleted_on_a_live_node_without_a_live_keda(snapshot, rules, rng) -> None:
    nodes = {node.name: node for node in snapshot.nodes}
    jobs = {job.stream: job for job in snapshot.jobs}
    for move in plan_offloads(snapshot, rules, rng).moves:
        job, keda = jobs[move.stream], jobs[move.stream].keda
        if nodes[move.source].ready and job.phase is not Phase.ABSENT:
            assert keda.ready
            assert keda.active
            assert not keda.paused
            assert keda.last_active_age_s <= 2 * keda.polling_interval_s + 10


# -- failures of well-known systems (scheduling.md, section 5) ---------------------------------------------------


def test_descheduler_1852_one_node_without_metrics_aborts_the_whole_cycle() -> None:
    """It doesn't here: the others are balanced, and the veto names the node."""
    base = farm({"hot": [40.0, 20.0], "cold": []})
    snapshot = dataclasses.replace(base, nodes=[*base.nodes, NodeState("mute", None, "target down")])
    plan = plan_offloads(snapshot, GUARDED, Random(0))
    assert [(move.source, move.destination) for move in plan.moves] == [("hot", "cold")]
    assert [str(veto) for veto in plan.vetoes] == ["mute: metric_unknown (why target down)"]


@pytest.mark.parametrize("policy", list(Policy))
def test_volcano_5583_volcano_3582_a_failed_fetch_becomes_zeros(policy: Policy) -> None:
    """It doesn't here: a node that is not known is not idle."""
    base = farm({"hot": [40.0, 20.0], "cold": [15.0]})
    snapshot = dataclasses.replace(base, nodes=[*base.nodes, NodeState("mute", None)])
    plan = plan_offloads(snapshot, Rules(policy=policy), Random(0))
    assert [move.destination for move in plan.moves] == ["cold"]


def test_descheduler_1695_the_heavy_pod_is_evicted_every_five_minutes() -> None:
    """It isn't here: readme sends it to and fro for ever, guarded leaves it."""
    counts = {}
    for rules in (README, GUARDED):
        farm_, counts[rules.policy] = farm({"a": [80.0], "b": [], "c": []}), 0
        for _ in range(50):
            for move in plan_offloads(farm_, rules, Random(0)).moves:
                farm_ = after(farm_, move)
                counts[rules.policy] += 1
    assert counts == {Policy.README: 50, Policy.GUARDED: 0}


def test_volcano_5313_a_herd_to_the_last_idle_node_during_metric_lag() -> None:
    """Eight nodes at 60 and an idle one: readme sends all eight there, guarded as many as it takes."""
    farm_ = farm({**{f"n{i}": [15.0] * 4 for i in range(8)}, "idle": []})
    herd = plan_offloads(farm_, README, Random(0)).moves
    assert [move.destination for move in herd] == ["idle"] * 8
    plan = plan_offloads(farm_, GUARDED, Random(0))
    assert [move.destination for move in plan.moves] == ["idle"] * 3
    assert reasons(plan) == {VetoReason.UNPLACEABLE: 5}
