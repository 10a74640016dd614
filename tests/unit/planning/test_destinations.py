"""Destinations against rule R7: only nodes that can run the pod, and only what this loop has not given away yet."""

from __future__ import annotations

import dataclasses
from collections import Counter
from random import Random

from hypothesis import given
from planned_farms import ANY_FARM, GUARDED, RULES, SEEDS, could_run, farm, lost, reasons

from posture.planning.model import (
    Policy,
    VetoReason,
)
from posture.planning.offloads import plan_offloads


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
