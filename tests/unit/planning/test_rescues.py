"""Rescues against rules R13 and R14 of docs/balancing.md."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from planned_farms import (
    ANY_FARM,
    DEAD_KEDA,
    GUARDED,
    README,
    SEEDS,
    could_run,
    farm,
    known,
    lost,
    reasons,
)

from posture.planning.ledger import Ledger
from posture.planning.model import (
    MoveKind,
    NodeState,
    Phase,
    Snapshot,
    StreamState,
    VetoReason,
)
from posture.planning.offloads import plan_offloads


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
    job = StreamState("pi1", "bad", Phase.PENDING, failing_s=130.0, history=known(20.0, origin="origin"))
    return dataclasses.replace(base, jobs=[*base.jobs, dataclasses.replace(job, **change)])  # type: ignore[arg-type]


def test_r13_a_node_where_two_streams_failed_to_start_is_no_destination_for_a_third() -> None:
    base = farm({"hot": [40.0, 20.0], "bad": [], "mild": [25.0]})
    for failures, destination in ((1, "bad"), (2, "mild")):
        closed = [
            StreamState(f"failed{i}", "mild", history=known(1.0, closed={"bad": (100.0, 1)}))
            for i in range(failures)
        ]
        plan = plan_offloads(dataclasses.replace(base, jobs=[*base.jobs, *closed], now_s=99.0), GUARDED, Random(0))
        assert [move.destination for move in plan.moves] == [destination]
        assert reasons(plan)[VetoReason.START_FAILURES] == failures - 1


def test_r13_it_goes_back_where_it_came_from_whatever_the_threshold_and_the_cooldown_say() -> None:
    history = known(20.0, origin="origin", moves=3, last_move_s=0.0)
    (move,) = plan_offloads(stuck(history=history), GUARDED, Random(0)).moves
    assert (move.kind, move.stream, move.destination) == (MoveKind.RESTART, "pi1", "origin")


def test_r13_where_its_origin_can_not_take_it_the_next_best_does() -> None:
    history = known(20.0, origin="origin", closed={"origin": (1.0, 1)})
    (move,) = plan_offloads(stuck(history=history), GUARDED, Random(0)).moves
    assert move.destination == "cold"


def test_r13_its_origin_has_no_room_for_it_once_another_rescue_of_the_same_loop_has_taken_it() -> None:
    nodes = [NodeState("bad", 10.0), NodeState("origin", 0.0, free={"cpu": 1.0}), NodeState("cold", 20.0)]
    asked = {"failing_s": 130.0, "requests": {"cpu": 0.6}}
    jobs = [
        StreamState("heavy", "bad", Phase.PENDING, history=known(20.0), **asked),
        StreamState("light", "bad", Phase.PENDING, history=known(10.0, origin="origin"), **asked),
    ]
    moves = plan_offloads(Snapshot(nodes, jobs), GUARDED, Random(0)).moves
    assert {move.stream: move.destination for move in moves} == {"heavy": "origin", "light": "cold"}


def test_r14_room_that_a_move_of_an_earlier_loop_will_take_is_not_given_away_again() -> None:
    lost = NodeState("lost", None, ready=False, down_s=99.0)
    nodes = [lost, NodeState("only", 10.0, free={"cpu": 1.0}), NodeState("cold", 20.0, free={"cpu": 1.0})]
    asked = {"requests": {"cpu": 0.6}}
    coming = StreamState("pi1", "only", Phase.ABSENT, moving=True, history=known(1.0), **asked)
    stranded = StreamState("pi2", "lost", history=known(1.0), **asked)
    (move,) = plan_offloads(Snapshot(nodes, [coming, stranded]), GUARDED, Random(0)).moves
    assert (move.stream, move.destination) == ("pi2", "cold")


def test_r13_a_node_that_is_open_to_a_stream_again_takes_it_beside_one_to_which_it_is_closed() -> None:
    nodes = [NodeState("lost", None, ready=False, down_s=99.0), NodeState("only", 10.0)]
    jobs = [
        StreamState(stream, "lost", history=known(5.0, closed={"only": (until_s, 1)}))
        for stream, until_s in (("pi1", 2000.0), ("pi2", 500.0))
    ]
    (move,) = plan_offloads(Snapshot(nodes, jobs, now_s=1000.0), GUARDED, Random(0)).moves
    assert (move.stream, move.destination) == ("pi2", "only")


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


@given(st.integers(2, 8), st.integers(0, 20), SEEDS)
def test_r14_the_streams_of_a_lost_node_are_spread_evenly_in_one_loop(n, jobs, rng) -> None:
    plan = plan_offloads(lost(n, 1, jobs), GUARDED, rng)
    assert {move.stream for move in plan.moves} == {f"pi0-{i}" for i in range(jobs)}
    counts = Counter(move.destination for move in plan.moves)
    floor, extras = divmod(jobs, n - 1)
    assert sorted(counts[f"n{i}"] for i in range(1, n)) == [floor] * (n - 1 - extras) + [floor + 1] * extras
    assert all(counts[f"n{i}"] == floor + 1 for i in range(1, extras + 1))


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


def test_r14_a_node_without_its_label_is_there_when_those_are_counted_that_fell_silent_together() -> None:
    nodes = [
        NodeState("a", None, ready=False, down_s=99.0),
        NodeState("b", 10.0),
        NodeState("c", 10.0, labelled=False),
    ]
    plan = plan_offloads(Snapshot(nodes, [StreamState("homeless", "a")]), GUARDED, Random(0))
    assert [(move.stream, move.destination) for move in plan.moves] == [("homeless", "b")]
    more = [*nodes, NodeState("d", None, ready=False, down_s=99.0), NodeState("e", None, ready=False, down_s=99.0)]
    plan = plan_offloads(Snapshot(more, [StreamState("homeless", "a")]), GUARDED, Random(0))
    assert VetoReason.MANY_LOST in reasons(plan)


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
        StreamState("homeless", "lost", barred=frozenset({"cold"}), history=known(5.0)),
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
    jobs = [StreamState(f"pi{i}", "lost", history=known(20.0)) for i in range(3)]
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
