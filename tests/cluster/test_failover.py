"""R13, R14 and R15 on the real control plane, their timers shortened."""

from __future__ import annotations

import json
import time

import pytest
from balancing import HISTORY, MOVE, Farm, annotations
from pods import Fault

PINNED = {"posture-farm/pinned": "true"}
GRACE_S = 3.0
KEDA_AWAY_S = 13.0
"""lastActiveTime may be two polls (of a second) + 10 s old."""


def test_the_streams_of_a_lost_node_run_elsewhere_within_the_bound_while_their_old_pods_hang(farm: Farm) -> None:
    lost, *others = farm.add_nodes(40, 20, 20, 20)
    streams = ["pi1", "pi2", "pi3"]
    for stream in streams:
        farm.add_stream(stream, lost)
    balancer = farm.balancer(node_grace_s=GRACE_S)
    balancer.wait_for("0 overloaded")
    began = time.monotonic()
    lost.die()
    for stream in streams:
        farm.until_ready_elsewhere(stream, lost)
    took_s = time.monotonic() - began
    print(f"three streams Ready elsewhere after {took_s:.1f} s")
    # grace, one loop (window and pause), one poll; the rest is for a busy machine
    assert took_s < GRACE_S + 1.5 + 1.0 + 30.0
    for stream in streams:
        (old,) = [pod for pod in farm.pods(stream) if pod.spec.nodeName == lost.name]
        assert old.metadata.deletionTimestamp is not None
    where = [node for node in others for stream in streams if node.name in farm.hosts(stream)]
    assert len(where) == len(set(where)) == 3, "they are spread"
    balancer.wait_for("runs on", count=3)
    assert not any(MOVE in annotations(farm.scaled_job(stream)) for stream in streams)
    lost.revive()
    for stream in streams:
        farm.until_one_pod(stream)


def test_more_than_half_of_the_nodes_lost_at_once_moves_nothing(farm: Farm) -> None:
    first, second, third = farm.add_nodes(10, 10, 10)
    farm.add_stream("pi1", first)
    farm.add_stream("pi2", third)
    before = farm.job_uids("pi1", "pi2")
    balancer = farm.balancer(node_grace_s=1.0)
    first.die()
    second.die()
    balancer.wait_for("many_lost")
    balancer.stop()
    assert farm.job_uids("pi1", "pi2") == before
    assert "to move" in balancer.said()
    assert "failover" not in balancer.said()


@pytest.mark.parametrize("fault", [Fault.IMAGE_PULL, Fault.NEVER_READY, Fault.CRASH], ids=lambda fault: fault.name)
def test_a_stream_that_cannot_start_at_its_destination_goes_back_to_where_it_came_from(
    farm: Farm, fault: Fault
) -> None:
    busy, broken = farm.add_nodes(80, 10)
    broken.fault = fault
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    balancer = farm.balancer(start_timeout_s=3.0)
    said = balancer.wait_for(
        f"offload from {busy.name} to {broken.name}", f"restart from {broken.name} to {busy.name}"
    )
    farm.until_moved("pi1", busy)
    assert f"it has failed to start on {broken.name}" in said
    balancer.wait_for(f"runs on {busy.name}")
    history = json.loads(annotations(farm.scaled_job("pi1"))[HISTORY])
    assert broken.name in history["closed"]


def test_a_stream_whose_first_placement_cannot_start_is_moved_on(farm: Farm) -> None:
    full, other = farm.add_nodes(10, 10)
    full.taint("maintenance")
    farm.add_stream("pi1", full, wait=False)
    balancer = farm.balancer(start_timeout_s=2.0)
    farm.until_moved("pi1", other)
    assert f"restart from {full.name} to {other.name}" in balancer.said()


def test_a_stream_whose_image_takes_longer_than_a_start_may_take_stays_once_it_runs(farm: Farm) -> None:
    slow, _ = farm.add_nodes(10, 10)
    slow.start_delay_s = 12.0
    farm.add_stream("pi1", slow, wait=False)
    balancer = farm.balancer(start_timeout_s=10.0)
    farm.until_on("pi1", slow)
    before = farm.job_uids("pi1")
    loops = balancer.said().count("0 overloaded")
    balancer.wait_for("0 overloaded", count=loops + 4)
    assert balancer.stop() == 0
    assert farm.job_uids("pi1") == before
    assert "restart" not in balancer.said()


def test_no_job_is_deleted_while_keda_is_away(farm: Farm) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    before = farm.job_uids("pi1")
    farm.cluster.keda.kill()
    # the rule itself is about time
    time.sleep(KEDA_AWAY_S)
    balancer = farm.balancer("--once")
    assert balancer.wait() == 0
    assert "keda_away" in balancer.said()
    assert farm.job_uids("pi1") == before
    assert MOVE not in annotations(farm.scaled_job("pi1"))
    farm.cluster.keda.start()
    farm.until_active("pi1")
    assert farm.balancer("--once").wait() == 0
    farm.until_moved("pi1", idle)


def test_a_paused_stream_is_not_moved(farm: Farm) -> None:
    busy, _ = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    before = farm.job_uids("pi1")
    farm.edit(
        "pi1", [{"op": "add", "path": "/metadata/annotations", "value": {"autoscaling.keda.sh/paused": "true"}}]
    )
    balancer = farm.balancer("--once", "--policy", "readme")
    assert balancer.wait() == 0
    assert "keda_away" in balancer.said()
    assert farm.job_uids("pi1") == before
