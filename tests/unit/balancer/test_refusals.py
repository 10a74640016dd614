"""A refused stream waits longer with each refusal, and alone."""

from __future__ import annotations

from random import Random

from planned_farms import GUARDED, lost, reasons

from posture.balancer.refusals import LONGEST_PAUSE_S, Refusals
from posture.planning.model import NodeState, Snapshot, StreamState, VetoReason
from posture.planning.offloads import plan_offloads


def test_pauses_grow_up_to_the_longest_and_begin_anew_after_a_change_that_was_taken() -> None:
    now_s = 0.0
    refusals = Refusals(lambda: now_s)
    pauses = [refusals.note("pi1", "no") for _ in range(10)]
    assert pauses[:3] == [10.0, 20.0, 40.0]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert (refusals.left_s("pi1"), refusals.left_s("pi2")) == (LONGEST_PAUSE_S, 0.0)
    now_s = LONGEST_PAUSE_S
    assert refusals.left_s("pi1") == 0.0
    assert refusals.forget("pi1")
    assert refusals.note("pi1", "no") == 10.0


def test_an_overloaded_node_gives_up_another_stream_while_one_is_refused() -> None:
    nodes = [NodeState("hot", 80.0), NodeState("idle", 10.0)]
    jobs = [StreamState("pi1", "hot", refused_s=5.0), StreamState("pi2", "hot")]
    plan = plan_offloads(Snapshot(nodes, jobs), GUARDED, Random(0))
    assert [move.stream for move in plan.moves] == ["pi2"]
    assert reasons(plan) == {VetoReason.REFUSED: 1}


def test_a_refused_rescue_is_a_veto_of_its_stream_alone() -> None:
    farm = lost(4, 1, 2)
    first, second = farm.jobs
    refused = StreamState(first.stream, first.node, refused_s=5.0)
    plan = plan_offloads(Snapshot(farm.nodes, [refused, second]), GUARDED, Random(0))
    assert [move.stream for move in plan.moves] == [second.stream]
    assert reasons(plan)[VetoReason.REFUSED] == 1
