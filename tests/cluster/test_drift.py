"""What runs is not always what is written: affinities that others edit, on the real control plane."""

from __future__ import annotations

from typing import Any

import pytest
from balancing import Farm
from control_plane import ScaledJob
from lightkube.resources.batch_v1 import Job
from lightkube.types import PatchType
from nodes import SimulatedNode
from scaled_jobs import affinity, labels_of_jobs, name_of
from watching import wait_for

PINNED = {"posture-farm/pinned": "true"}
AFFINITY = "/spec/jobTargetRef/template/spec/affinity"


def names_another(node: SimulatedNode) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": AFFINITY, "value": affinity(node.name)}]


def names_two(node: SimulatedNode) -> list[dict[str, Any]]:
    both = affinity(node.name)
    terms = both["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    terms[0]["matchExpressions"][0]["values"].append("node-8")
    return [{"op": "replace", "path": AFFINITY, "value": both}]


def removes_it(node: SimulatedNode) -> list[dict[str, Any]]:
    del node
    return [{"op": "remove", "path": AFFINITY}]


EDITS = pytest.mark.parametrize("edit", [names_another, names_two, removes_it], ids=lambda one: one.__name__)


def named(farm: Farm, stream: str) -> Any:
    spec = farm.scaled_job(stream).spec["jobTargetRef"]["template"]["spec"]
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]


def as_somebody_else(farm: Farm, stream: str, operations: list[dict[str, Any]]) -> None:
    where = {"namespace": farm.namespace, "patch_type": PatchType.JSON}
    farm.cluster.client.patch(ScaledJob, name_of(stream), operations, **where)


@EDITS
def test_overload_moves_a_stream_from_where_its_job_is(farm: Farm, edit: Any) -> None:
    busy, idle, other = farm.add_nodes(80, 10, 30)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    as_somebody_else(farm, "pi1", edit(other))
    balancer = farm.balancer("--once")
    assert balancer.wait() == 0, balancer.said()
    farm.until_moved("pi1", idle)
    assert f"offload from {busy.name} to {idle.name}" in balancer.said()


@EDITS
def test_a_drift_is_healed_once_a_cooldown_and_the_stream_of_a_lost_node_is_rescued_all_the_same(
    farm: Farm, edit: Any
) -> None:
    lost, *others = farm.add_nodes(40, 20, 20)
    farm.add_stream("pi1", lost)
    before = farm.job_uids("pi1")
    as_somebody_else(farm, "pi1", edit(others[0]))
    balancer = farm.balancer(node_grace_s=2.0, cooldown_base_s=1000.0, cooldown_cap_s=1000.0)
    said = balancer.wait_for(f"it names {lost.name} again")
    assert "written by python-httpx" in said or edit is removes_it
    assert named(farm, "pi1") == [lost.name]
    as_somebody_else(farm, "pi1", edit(others[0]))
    loops = balancer.said().count("0 overloaded")
    balancer.wait_for("0 overloaded", count=loops + 3)
    assert balancer.said().count(f"it names {lost.name} again") == 1
    assert [reason for reason, _ in farm.events("pi1")] == ["PlacementDrift"]
    assert farm.job_uids("pi1") == before, "the Job runs on"
    lost.die()
    farm.until_ready_elsewhere("pi1", lost)


def test_a_stream_that_nothing_places_is_named(farm: Farm) -> None:
    (node,) = farm.add_nodes(10)
    farm.scaler.active = False
    farm.add_stream("pi1", node, wait=False)
    as_somebody_else(farm, "pi1", removes_it(node))
    balancer = farm.balancer("--once")
    assert balancer.wait() == 0
    assert "not moved: pi1: unmanaged" in balancer.said()


@EDITS
def test_an_affinity_that_others_write_in_mid_move_costs_the_stream_no_second_start(farm: Farm, edit: Any) -> None:
    busy, idle, other = farm.add_nodes(80, 10, 30)
    idle.start_delay_s = 600.0  # the move is open until it is shortened
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    before = farm.job_uids("pi1")
    balancer = farm.balancer(cooldown_base_s=1000.0, cooldown_cap_s=1000.0)

    def successor(jobs: Any) -> bool:
        return bool(jobs) and not before & {job.metadata.uid for job in jobs}

    (job,) = farm.cluster.until(Job, farm.namespace, successor, labels_of_jobs("pi1"))
    as_somebody_else(farm, "pi1", edit(other))
    balancer.wait_for("in the middle of a move; it names " + idle.name)
    idle.start_delay_s = 0.0
    farm.until_moved("pi1", idle)
    assert farm.job_uids("pi1") == {job.metadata.uid}
    assert named(farm, "pi1") == [idle.name]
    wait_for(lambda: "MoveFinished" in dict(farm.events("pi1")))
    assert [reason for reason, _ in farm.events("pi1")] == ["MoveBegun", "PlacementDrift", "MoveFinished"]
