"""One loop's plan (offloads.py and draft.py) against rules R1 to R12 and R15 of docs/balancing.md, by property."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from planned_farms import (
    ANY_FARM,
    GUARDED,
    README,
    RULES,
    SEEDS,
    SPEEDS,
    after,
    could_run,
    farm,
    farm_by_signal,
    known,
    reasons,
)

from posture.planning.ledger import Ledger
from posture.planning.model import (
    ONE_SIGNAL,
    Arrival,
    Move,
    MoveKind,
    NodeHistory,
    NodeState,
    Phase,
    Points,
    Policy,
    Rules,
    Snapshot,
    StreamHistory,
    StreamState,
    VetoReason,
)
from posture.planning.offloads import plan_offloads

LIMIT = GUARDED.threshold + 1e-5


@st.composite
def exact_farms(draw: st.DrawFn) -> Snapshot:
    """Nodes of several speeds whose usage is exactly that of their jobs."""
    n = draw(st.integers(1, 8))
    works = st.lists(st.floats(1, 40), max_size=5)
    loads = {f"n{i}": draw(works) for i in range(n)}
    return farm(loads, {name: draw(st.sampled_from(SPEEDS)) for name in loads})


def passes_on(move: Move) -> bool:
    """Say whether it is a move of R3: it leaves its destination over the threshold."""
    assert move.destination_usage is not None
    return move.destination_usage + move.cost[ONE_SIGNAL] > LIMIT


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


@given(ANY_FARM, RULES, st.integers(0, 2**32))
def test_the_same_snapshot_and_seed_give_the_same_plan_in_whatever_order(snapshot, rules, seed) -> None:
    backwards = dataclasses.replace(snapshot, nodes=snapshot.nodes[::-1], jobs=snapshot.jobs[::-1])
    one, other = (plan_offloads(farm_, rules, Random(seed)) for farm_ in (snapshot, backwards))
    assert one.moves == other.moves
    assert sorted(map(str, one.vetoes)) == sorted(map(str, other.vetoes))


@given(ANY_FARM, RULES, SEEDS)
def test_a_source_gives_up_at_most_one_job_and_is_no_destination_in_the_same_loop(snapshot, rules, rng) -> None:
    moves = [move for move in plan_offloads(snapshot, rules, rng).moves if move.kind is MoveKind.OFFLOAD]
    sources = [move.source for move in moves]
    assert len(set(sources)) == len(sources)
    assert not set(sources) & {move.destination for move in moves}
    usage = {node.name: node.usage for node in snapshot.nodes}
    assert all(usage[move.source] > rules.threshold >= usage[move.destination] - 1e-6 for move in moves)


@given(ANY_FARM, RULES, SEEDS)
def test_an_overloaded_node_is_never_passed_over_in_silence(snapshot, rules, rng) -> None:
    plan = plan_offloads(snapshot, rules, rng)
    spoken = {move.source for move in plan.moves} | {veto.node for veto in plan.vetoes}
    assert set(plan.overloaded) <= spoken or VetoReason.ALL_OVERLOADED in reasons(plan)
    assert all(str(veto) for veto in plan.vetoes)


@given(exact_farms(), st.integers(0, 2**32))
def test_the_first_move_of_guarded_differs_from_readme_only_by_vetoes_and_the_choice_of_job(farm_, seed) -> None:
    readme, guarded = (plan_offloads(farm_, rules, Random(seed)) for rules in (README, GUARDED))
    assert readme.overloaded == guarded.overloaded
    assume(len({node.speed for node in farm_.nodes}) == 1)
    if guarded.moves and guarded.moves[0].source == readme.moves[0].source:
        usage = {node.name: node.usage for node in farm_.nodes}
        assert usage[guarded.moves[0].destination] == usage[readme.moves[0].destination]


@given(ANY_FARM, RULES, SEEDS)
def test_a_pinned_stream_is_never_moved(snapshot, rules, rng) -> None:
    pinned = {job.stream for job in snapshot.jobs if job.pinned}
    assert not pinned & {move.stream for move in plan_offloads(snapshot, rules, rng).moves}


def test_the_smallest_job_that_cures_its_node_moves_else_the_largest_that_fits() -> None:
    cured = plan_offloads(farm({"hot": [30.0, 22.0, 15.0, 1.0], "cold": []}), GUARDED, Random(0))
    assert [move.relief[ONE_SIGNAL] for move in cured.moves] == [22.0]
    eased = plan_offloads(farm({"hot": [45.0, 30.0, 25.0], "cold": [20.0]}), GUARDED, Random(0))
    assert [move.relief[ONE_SIGNAL] for move in eased.moves] == [30.0]


@given(exact_farms(), SEEDS)
def test_r1_r2_inflow_never_exceeds_headroom_and_no_move_makes_a_node_overloaded(farm_, rng) -> None:
    moves = plan_offloads(farm_, GUARDED, rng).moves
    assume(not any(passes_on(move) for move in moves))
    inflow: defaultdict[str, float] = defaultdict(float)
    for move in moves:
        inflow[move.destination] += move.cost[ONE_SIGNAL]
    usage = {node.name: node.usage or 0.0 for node in farm_.nodes}
    assert all(usage[name] + points <= LIMIT for name, points in inflow.items())


@given(exact_farms(), SEEDS)
def test_r3_the_sorted_load_vector_falls_lexicographically_with_each_move(farm_, rng) -> None:
    for move in plan_offloads(farm_, GUARDED, rng).moves:
        before = sorted((node.usage for node in farm_.nodes), reverse=True)
        farm_ = after(farm_, move)
        assert sorted((node.usage for node in farm_.nodes), reverse=True) < before


@given(exact_farms(), SEEDS)
def test_r3_is_taken_only_where_nothing_fits(farm_, rng) -> None:
    speeds = {node.name: node.speed for node in farm_.nodes}
    # a source is no destination in the same loop, whatever it has given away
    sources = {node.name for node in farm_.nodes if node.usage > LIMIT}
    for move in plan_offloads(farm_, GUARDED, rng).moves:
        if passes_on(move):
            usage = {node.name: node.usage for node in farm_.nodes}
            for job in farm_.jobs:
                if job.node == move.source:
                    work = job.history.work[ONE_SIGNAL]
                    fits = [n for n in usage.keys() - sources if usage[n] + work / speeds[n] <= LIMIT - 2e-5]
                    assert not fits
        farm_ = after(farm_, move)


def run_to_the_end(farm_: Snapshot, rng: Random) -> tuple[int, list[Move], bool]:
    """Return how many loops there were until one had nothing to do, all moves, and whether one was by R3."""
    moves: list[Move] = []
    by_r3 = False
    for loop in range(1, 200):
        plan = plan_offloads(farm_, GUARDED, rng)
        if not plan.moves:
            return loop, moves, by_r3
        for move in plan.moves:
            farm_ = after(farm_, move)
        ended = {node.name: node.usage or 0.0 for node in farm_.nodes}
        by_r3 |= any(ended[move.destination] > LIMIT for move in plan.moves)
        moves += plan.moves
    raise AssertionError("it doesn't end")


def random_farm(rng: Random) -> Snapshot:
    n = rng.randint(2, 12)
    loads = {f"n{i}": [rng.uniform(0.5, 30) for _ in range(rng.randint(0, 8))] for i in range(n)}
    return farm(loads, {name: rng.choice(SPEEDS) for name in loads})


def random_farm_of_two_signals(rng: Random) -> Snapshot:
    """Streams that use both, or only one, on nodes that are read by both, or by only one."""
    names = [f"n{i}" for i in range(rng.randint(2, 12))]
    most = rng.choice([15.0, 30.0])

    def work() -> Points:
        return {signal: rng.choice([0.0, *[rng.uniform(0.5, most)] * 4]) for signal in ("gpu", "cpu")}

    return farm_by_signal(
        {name: [work() for _ in range(rng.randint(0, 8))] for name in names} | {"last": [work()]},
        {name: rng.choice([["gpu", "cpu"], ["gpu", "cpu"], ["gpu", "cpu"], ["gpu"], ["cpu"]]) for name in names},
        {name: {signal: rng.choice(SPEEDS) for signal in ("gpu", "cpu")} for name in names},
    )


@pytest.mark.parametrize("any_of_them", [random_farm, random_farm_of_two_signals])
def test_the_static_theorem_holds_on_3000_random_farms(any_of_them: Callable[[Random], Snapshot]) -> None:
    """Each job moves at most once, and loops <= moves + 1, where R3 isn't in play."""
    rng = Random(20261124)
    held, moved = 0, 0
    while held < 3000:
        loops, moves, by_r3 = run_to_the_end(any_of_them(rng), rng)
        if by_r3:
            continue
        streams = [move.stream for move in moves]
        assert len(set(streams)) == len(streams)
        assert loops <= len(moves) + 1
        held += 1
        moved += bool(moves)
    assert moved > 1000


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


@given(exact_farms(), SEEDS)
def test_r3_it_ends(farm_, rng) -> None:
    run_to_the_end(farm_, rng)


def test_r3_one_heavy_job_alone_is_unplaceable_and_stays() -> None:
    plan = plan_offloads(farm({"a": [80.0], "b": []}), GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan) == {VetoReason.UNPLACEABLE: 1}


def test_r1_moves_that_are_still_warming_up_count_at_their_destination() -> None:
    loads = farm({"hot": [40.0, 20.0], "a": [], "b": [30.0]})
    coming = StreamState("coming", "a", Phase.STARTING, moving=True, history=known(35.0))
    snapshot = dataclasses.replace(loads, jobs=[*loads.jobs, coming])
    (move,) = plan_offloads(snapshot, GUARDED, Random(0)).moves
    assert move.destination == "b"


@given(st.sampled_from([60.0, 300.0, 600.0]), st.integers(0, 5), st.floats(0.5, 8), st.sampled_from([60.0, 290.0]))
def test_r4_a_job_moves_no_more_often_than_its_cooldown_allows(base, doublings, hours, step) -> None:
    """Even on a farm that always shows the job's node as the worst one."""
    cap = base * 2**doublings
    rules = Rules(cooldown_base_s=base, cooldown_cap_s=cap)
    ledger = Ledger(rules)
    at, moves, now = "a", 0, 0.0
    while now <= hours * 3600:
        history = dataclasses.replace(ledger.stream("pi1"), work={ONE_SIGNAL: 30.0})
        nodes = [NodeState(name, 60.0 if name == at else 0.0) for name in ("a", "b")]
        plan = plan_offloads(Snapshot(nodes, [StreamState("pi1", at, history=history)], now), rules, Random(0))
        for move in plan.moves:
            ledger.moved(move, now)
            at, moves = move.destination, moves + 1
        now += step
    assert moves <= math.log2(cap / base) + hours * 3600 / cap + 1


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
        history = known(20.0, moves=1, last_move_s=base.now_s + ahead_s)
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
            taken = {move.destination for move in plan.moves} | {job.node for job in snapshot.jobs if job.moving}
            assert back or all(other.name == job.node or other.name in taken for other in others)


@given(ANY_FARM, RULES, st.integers(0, 2**32), st.sampled_from([0.25, 2.0, 8.0]))
def test_r8_scaling_speeds_and_costs_together_leaves_the_plan_unchanged(snapshot, rules, seed, factor) -> None:
    nodes = [dataclasses.replace(node, speed=node.speed * factor) for node in snapshot.nodes]
    jobs = [
        job
        if not job.history.work
        else dataclasses.replace(
            job, history=dataclasses.replace(job.history, work={ONE_SIGNAL: job.history.work[ONE_SIGNAL] * factor})
        )
        for job in snapshot.jobs
    ]
    scaled = plan_offloads(dataclasses.replace(snapshot, nodes=nodes, jobs=jobs), rules, Random(seed))
    plan = plan_offloads(snapshot, rules, Random(seed))
    assert [(m.stream, m.destination) for m in plan.moves] == [(m.stream, m.destination) for m in scaled.moves]


def test_r8_a_job_that_a_small_board_can_not_carry_fits_a_large_one() -> None:
    snapshot = farm({"nano": [45.0, 20.0], "nano2": [30.0], "agx": [120.0]}, {"agx": 4.0})
    (move,) = plan_offloads(snapshot, GUARDED, Random(0)).moves
    assert (move.destination, move.relief, move.cost) == ("nano2", {ONE_SIGNAL: 20.0}, {ONE_SIGNAL: 20.0})
    heavy = farm({"nano": [60.0], "nano2": [30.0], "agx": [120.0]}, {"agx": 4.0})
    (move,) = plan_offloads(heavy, GUARDED, Random(0)).moves
    assert (move.destination, move.relief, move.cost) == ("agx", {ONE_SIGNAL: 60.0}, {ONE_SIGNAL: 15.0})


@given(ANY_FARM, RULES, SEEDS)
def test_r9_no_offload_while_all_are_overloaded_or_prometheus_is_away(snapshot, rules, rng) -> None:
    hot = [dataclasses.replace(node, usage=None if node.usage is None else 99.0) for node in snapshot.nodes]
    blind = [dataclasses.replace(node, usage=None) for node in snapshot.nodes]
    for nodes, reason in ((hot, VetoReason.ALL_OVERLOADED), (blind, VetoReason.NO_METRICS)):
        plan = plan_offloads(dataclasses.replace(snapshot, nodes=nodes), rules, rng)
        assert all(move.kind is not MoveKind.OFFLOAD for move in plan.moves)
        if nodes is blind or any(node.usage is not None for node in nodes):
            assert reasons(plan)[reason] == 1


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
    assert move.relief == {ONE_SIGNAL: 20.0}
    assert move.guess
    assert move.why == "hot comes from 60.0 to about 40.0 (a guess: the load of pi0 is not known yet)"
    tried = [StreamState(f"pi{i}", "hot", history=StreamHistory(tried=True, last_move_s=0.0)) for i in range(3)]
    plan = plan_offloads(Snapshot(nodes, tried, now_s=GUARDED.cooldown_cap_s - 1), GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan) == {VetoReason.LOAD_UNKNOWN: 3}
    # a fault may have prevented the load from being measured
    assert len(plan_offloads(Snapshot(nodes, tried, now_s=GUARDED.cooldown_cap_s), GUARDED, Random(0)).moves) == 1


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


def test_farms_that_share_nodes_do_not_herd_onto_the_same_idle_one() -> None:
    loads = {"hot": [30.0, 30.0], "idle": [5.0], "second": [10.0]}
    for cost, destination in ((4.0, "idle"), (10.0, "second"), (None, "second")):
        plan = plan_offloads(farm(loads, arriving=[Arrival("idle", cost)]), GUARDED, Random(0))
        assert [move.destination for move in plan.moves] == [destination], cost


def test_r2_a_node_that_other_farms_fill_takes_no_stream() -> None:
    loads = {"hot": [30.0, 30.0], "idle": [5.0]}
    arriving = [Arrival("idle", 15.0), Arrival("idle", 15.0), Arrival("a node of theirs only", 10.0)]
    assert not plan_offloads(farm(loads, arriving=arriving), GUARDED, Random(0)).moves
    (move,) = plan_offloads(farm(loads, arriving=arriving[1:]), GUARDED, Random(0)).moves
    assert move.destination_usage == 20.0


# -- several signals ---------------------------------------------------------------------------------------------

TWO_SIGNALS = st.integers(0, 2**32).map(lambda seed: random_farm_of_two_signals(Random(seed)))
BOTH = ("gpu", "cpu")


def both(gpu: float, cpu: float) -> Points:
    return {"gpu": gpu, "cpu": cpu}


def test_a_node_whose_gpu_is_idle_takes_no_stream_that_its_processors_have_no_room_for() -> None:
    loads = {"hot": [both(45, 5), both(10, 20)], "idle gpu": [both(0, 40)], "half": [both(30, 0)]}
    (move,) = plan_offloads(farm_by_signal(loads), GUARDED, Random(0)).moves
    assert (move.stream, move.destination, move.relief, move.cost) == ("hot.1", "half", both(10, 20), both(10, 20))
    one_signal = {name: [work["gpu"] for work in works] for name, works in loads.items()}
    (blind,) = plan_offloads(farm(one_signal), GUARDED, Random(0)).moves
    assert blind.destination == "idle gpu"


def test_the_stream_that_moves_is_one_that_uses_what_is_scarce() -> None:
    farm_ = farm_by_signal({"hot": [both(1, 15), both(30, 12), both(8, 30)], "cold": []}, {"cold": BOTH})
    (move,) = plan_offloads(farm_, GUARDED, Random(0)).moves
    assert move.stream == "hot.0", "the smallest that brings the processors to the threshold, not the GPU's"


def test_a_node_that_is_full_in_two_signals_by_different_streams_gives_them_up_one_by_one() -> None:
    farm_ = farm_by_signal(
        {"hot": [both(30, 0), both(30, 0), both(0, 30), both(0, 30)], "cold": []}, {"cold": BOTH}
    )
    moved = []
    for _ in range(3):
        for move in plan_offloads(farm_, GUARDED, Random(0)).moves:
            farm_ = after(farm_, move)
            moved.append(move.relief)
    assert len(moved) == 2
    assert both(30, 0) in moved
    assert both(0, 30) in moved
    assert plan_offloads(farm_, GUARDED, Random(0)).stable


def test_a_signal_that_none_of_its_streams_uses_makes_a_node_no_source() -> None:
    farm_ = farm_by_signal({"hot": [both(20, 0)], "cold": []}, {"cold": BOTH})
    foreign = dataclasses.replace(farm_.nodes[0], usage=70.0, signals=both(20, 70))
    plan = plan_offloads(dataclasses.replace(farm_, nodes=[foreign, farm_.nodes[1]]), GUARDED, Random(0))
    assert not plan.moves
    assert list(map(str, plan.vetoes)) == ["hot: not_our_load (usage 70, unused cpu)"]


def test_a_load_of_ours_that_may_not_leave_now_is_not_called_somebody_elses() -> None:
    farm_ = farm_by_signal({"hot": [both(20, 0), both(0, 70)], "cold": []}, {"cold": BOTH})
    jobs = [farm_.jobs[0], dataclasses.replace(farm_.jobs[1], pinned=True)]
    plan = plan_offloads(dataclasses.replace(farm_, jobs=jobs), GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan) == {VetoReason.PINNED: 1}


@pytest.mark.parametrize(
    ("there", "cost"),
    [
        pytest.param([{"npu": 12.0}], 12.0, id="the mean of the nodes that show it"),
        pytest.param([], 10.0, id="shown by no node with jobs: the most that it costs in another signal"),
    ],
)
def test_a_load_that_was_never_seen_in_a_signal_is_not_nothing_there(there: list[Points], cost: float) -> None:
    loads = {"hot": [both(50, 5), both(10, 5)], "full": [both(45, 45)]}
    nodes = [*farm_by_signal(loads).nodes, *farm_by_signal({"odd": there}, {"odd": ["npu"]}).nodes]
    jobs = [*farm_by_signal(loads).jobs, *farm_by_signal({"odd": there}, {"odd": ["npu"]}).jobs]
    (move,) = plan_offloads(Snapshot(nodes, jobs), GUARDED, Random(0)).moves
    assert (move.stream, move.destination, move.cost, move.guess) == ("hot.1", "odd", {"npu": cost}, True)


def test_a_load_that_was_seen_to_be_nothing_in_a_signal_is_nothing_there() -> None:
    loads = {"hot": [both(40, 0), both(20, 0)], "busy": [both(0, 49)], "full": [both(45, 45)]}
    (move,) = plan_offloads(farm_by_signal(loads), GUARDED, Random(0)).moves
    assert (move.destination, move.cost) == ("busy", both(20, 0))


def test_r1_what_is_on_its_way_counts_in_each_signal() -> None:
    loads = {"hot": [both(40, 20), both(20, 20)], "a": [both(1, 1)], "b": [both(30, 20)]}
    base = farm_by_signal(loads)
    coming = StreamState("coming", "a", Phase.STARTING, moving=True, history=StreamHistory(work=both(1, 35)))
    (move,) = plan_offloads(dataclasses.replace(base, jobs=[*base.jobs, coming]), GUARDED, Random(0)).moves
    assert move.destination == "b"
    (move,) = plan_offloads(farm_by_signal(loads, arriving=[Arrival("a", 35.0)]), GUARDED, Random(0)).moves
    assert move.destination == "b"


@example(random_farm_of_two_signals(Random(5411)), Random(0))
@given(TWO_SIGNALS, SEEDS)
def test_r1_r2_inflow_never_exceeds_headroom_in_any_signal(farm_, rng) -> None:
    # R3 may come after it, and send more to the same node than fits
    fitting = [move for move in plan_offloads(farm_, GUARDED, rng).moves if "nothing fits" not in move.why]
    for move in fitting:
        farm_ = after(farm_, move)
    usage = {node.name: node.usage or 0.0 for node in farm_.nodes}
    assert all(usage[move.destination] <= LIMIT for move in fitting)


@given(TWO_SIGNALS, SEEDS)
def test_r3_the_sorted_loads_of_all_signals_fall_lexicographically_with_each_move(farm_, rng) -> None:
    def loads(snapshot: Snapshot) -> list[float]:
        return sorted((points for node in snapshot.nodes for points in node.averages.values()), reverse=True)

    for move in plan_offloads(farm_, GUARDED, rng).moves:
        before = loads(farm_)
        farm_ = after(farm_, move)
        assert loads(farm_) < before


def test_r3_passes_no_overload_on_that_is_larger_than_what_the_stream_takes_off() -> None:
    """The GPU of the source is higher yet, and stays so."""
    farm_ = farm_by_signal({"hot": [both(90, 0), both(0, 60)], "cold": [both(5, 25)]})
    plan = plan_offloads(farm_, GUARDED, Random(0))
    assert not plan.moves
    assert reasons(plan) == {VetoReason.UNPLACEABLE: 1}
    easier = farm_by_signal({"hot": [both(90, 0), both(0, 60)], "cold": [both(5, 0)], "full": [both(5, 49)]})
    assert not plan_offloads(easier, GUARDED, Random(0)).moves, "one heavy stream alone stays, as with one signal"
    split = farm_by_signal(
        {"hot": [both(90, 0), both(0, 60), both(0, 20)], "cold": [both(5, 55)], "idle": [both(0, 45)]}
    )
    (move,) = plan_offloads(split, GUARDED, Random(0)).moves
    assert (move.relief, move.destination) == (both(0, 20), "idle")


@given(ANY_FARM, RULES, st.integers(0, 2**32))
def test_a_signal_that_says_the_same_as_the_other_one_changes_no_plan(snapshot, rules, seed) -> None:
    def twice(points: Points) -> Points:
        return {name: value for value in points.values() for name in BOTH}

    nodes = [dataclasses.replace(node, signals=twice(node.averages)) for node in snapshot.nodes]
    jobs = [
        dataclasses.replace(job, history=dataclasses.replace(job.history, work=twice(job.history.work)))
        for job in snapshot.jobs
    ]
    one = plan_offloads(snapshot, rules, Random(seed))
    other = plan_offloads(dataclasses.replace(snapshot, nodes=nodes, jobs=jobs), rules, Random(seed))
    assert [(m.kind, m.stream, m.destination, m.why) for m in one.moves] == [
        (m.kind, m.stream, m.destination, m.why) for m in other.moves
    ]
    assert one.vetoes == other.vetoes


@given(TWO_SIGNALS, st.integers(0, 2**32), st.sampled_from([0.25, 8.0]))
def test_r8_scaling_speeds_and_costs_of_one_signal_together_leaves_the_plan_unchanged(farm_, seed, factor) -> None:
    nodes = [
        dataclasses.replace(node, speeds={**node.speeds, "gpu": node.speed_in("gpu") * factor})
        for node in farm_.nodes
    ]
    jobs = [
        dataclasses.replace(
            job, history=StreamHistory(work={**job.history.work, "gpu": job.history.work["gpu"] * factor})
        )
        for job in farm_.jobs
    ]
    plans = [
        plan_offloads(one, GUARDED, Random(seed))
        for one in (farm_, dataclasses.replace(farm_, nodes=nodes, jobs=jobs))
    ]
    assert plans[0].moves == plans[1].moves


@given(st.integers(2, 8), st.floats(2, 20), st.integers(0, 2**32))
def test_nothing_stays_unplaceable_while_the_signals_together_leave_enough_slack(n, most, seed) -> None:
    """On equal nodes: those that lack room in one signal or another are fewer than there are."""
    rng = Random(seed)
    names = [f"n{i}" for i in range(n)]
    loads = {
        name: [both(rng.uniform(0, most), rng.uniform(0, most)) for _ in range(rng.randint(0, 8))] for name in names
    }
    share = 0.0
    for signal in BOTH:
        works = [work[signal] for node in loads.values() for work in node]
        share += sum(works) / n / (GUARDED.threshold - max(works, default=0.0))
    assume(share <= 1)
    farm_ = farm_by_signal(loads, dict.fromkeys(names, BOTH))
    for _ in range(60):
        plan = plan_offloads(farm_, GUARDED, rng)
        if plan.stable:
            return
        for move in plan.moves:
            farm_ = after(farm_, move)
    raise AssertionError("it is not stable")


@pytest.mark.parametrize("rules", [GUARDED, README], ids=["guarded", "readme"])
def test_r15_nothing_leaves_an_overloaded_node_while_several_streams_are_refused_their_pods(rules: Rules) -> None:
    loads = {"hot": [40.0, 40.0], "warm": [30.0, 30.0], "cold": [5.0, 5.0]}
    refused = farm(loads, without_pods=("cold.0", "cold.1"))
    plan = plan_offloads(refused, rules, Random(1))
    assert not plan.moves
    assert [(veto.reason, veto.node) for veto in plan.vetoes] == [
        (VetoReason.PODS_REFUSED, "hot"),
        (VetoReason.PODS_REFUSED, "warm"),
    ]
    # one stream may itself be why
    assert plan_offloads(farm(loads, without_pods=("cold.0",)), rules, Random(1)).moves
