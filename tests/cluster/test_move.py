"""A move on the real control plane, with KEDA polling each second."""

from __future__ import annotations

from typing import Any

from balancing import HISTORY, MOVE, Farm, annotations

PINNED = {"posture-farm/pinned": "true"}


def test_a_stream_of_an_overloaded_node_moves_to_the_idle_one(farm: Farm) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    balancer = farm.balancer("--once")
    assert balancer.wait() == 0, balancer.said()
    farm.until_moved("pi1", idle)
    assert [reason for reason, _ in farm.events("pi1")] == ["MoveBegun", "MoveFinished"]
    assert f"offload from {busy.name} to {idle.name}" in farm.events("pi1")[0][1]
    assert (balancer.config.parent / "last_node.txt").read_text().split()[0] == idle.name
    assert MOVE not in annotations(farm.scaled_job("pi1"))
    assert '"moves": 1' in annotations(farm.scaled_job("pi1"))[HISTORY]


def test_pi1_moves_and_pi1_1_is_untouched(farm: Farm) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1-1", busy, annotations=PINNED)
    farm.add_stream("pi1", busy)
    before = farm.scaled_job("pi1-1"), farm.job_uids("pi1-1")
    assert farm.balancer("--once").wait() == 0
    farm.until_moved("pi1", idle)
    assert farm.job_uids("pi1-1") == before[1]
    assert unchanged(farm.scaled_job("pi1-1")) == unchanged(before[0])


def unchanged(scaled_job: Any) -> Any:
    return scaled_job["spec"], scaled_job.metadata.annotations, scaled_job.metadata.generation
