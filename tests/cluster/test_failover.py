"""R13, R14 and R15 on the real control plane, their timers shortened."""

from __future__ import annotations

import datetime
import json
import threading
import time

import pytest
from balancing import HISTORY, MOVE, Farm, annotations
from control_plane import ScaledJob
from lightkube.resources.core_v1 import Node, Pod
from lightkube.types import PatchType
from pods import Fault
from scaled_jobs import is_ready, name_of

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
    assert took_s < GRACE_S + 1.5 + 1.0 + 60.0
    old = farm.cluster.until(
        Pod,
        farm.namespace,
        lambda pods: all(pod.metadata.deletionTimestamp for pod in pods if pod.spec.nodeName == lost.name),
    )
    assert sum(pod.spec.nodeName == lost.name for pod in old) == len(streams), "they hang"
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
    first.die()
    second.die()
    # not before: it might see one of them alone
    balancer = farm.balancer(node_grace_s=1.0)
    balancer.wait_for("many_lost")
    balancer.stop()
    assert farm.job_uids("pi1", "pi2") == before
    assert "to move" in balancer.said()
    assert "failover" not in balancer.said()


def test_three_of_five_nodes_that_were_removed_for_good_are_no_outage_of_the_balancer(farm: Farm) -> None:
    nodes = farm.add_nodes(10, 10, 10, 10, 10)
    gone, left = nodes[:3], nodes[3:]
    for number, node in enumerate(gone):
        farm.add_stream(f"pi{number}", node)
    for node in gone:
        node.cordon()  # nothing is to move to one that goes next
    balancer = farm.balancer(node_grace_s=5.0)
    balancer.wait_for("0 overloaded")
    for node in gone:
        node.delete()
    for number, node in enumerate(gone):
        farm.until_ready_elsewhere(f"pi{number}", node)
    # a pod of a node that is gone may outlive its Job for a moment
    names = {node.name for node in left}
    farm.cluster.until(
        Pod, farm.namespace, lambda pods: {pod.spec.nodeName for pod in pods if is_ready(pod)} <= names
    )
    assert "many_lost" not in balancer.said()
    assert "no node has carried the label" in balancer.said()


def test_a_label_that_is_taken_off_a_ready_node_is_told_as_that(farm: Farm) -> None:
    first, _ = farm.add_nodes(10, 10)
    farm.add_stream("pi1", first)
    before = farm.job_uids("pi1")
    balancer = farm.balancer(node_grace_s=1.0)
    balancer.wait_for("0 overloaded")
    farm.cluster.client.patch(Node, first.name, {"metadata": {"labels": {"gpu-node": None}}})
    said = balancer.wait_for(f"{first.name}: label_gone (host {first.name}, streams 1)")
    loops = said.count("0 overloaded")
    balancer.wait_for("0 overloaded", count=loops + 4)
    assert farm.job_uids("pi1") == before, "it runs on"
    assert "has been away" not in balancer.said()


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


def test_keda_with_a_clock_an_hour_ahead_is_dead_when_its_stamps_stand_still(farm: Farm) -> None:
    busy, _ = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    before = farm.job_uids("pi1")
    farm.cluster.keda.kill()
    stamp_all(farm, ahead_s=3600)
    time.sleep(KEDA_AWAY_S)
    balancer = farm.balancer("--once")
    assert balancer.wait() == 0
    assert "keda_away" in balancer.said()
    assert farm.job_uids("pi1") == before


def test_keda_with_a_clock_an_hour_behind_is_alive_while_its_stamps_change(farm: Farm) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    ended = threading.Event()

    def stamp_on() -> None:
        while not ended.wait(0.2):
            stamp_all(farm, ahead_s=-3600)

    stamping = threading.Thread(target=stamp_on)
    stamping.start()
    try:
        balancer = farm.balancer("--once")
        assert balancer.wait() == 0, balancer.said()
    finally:
        ended.set()
        stamping.join()
    farm.until_moved("pi1", idle)


def stamp_all(farm: Farm, ahead_s: float) -> None:
    """Write KEDA's stamps as one with another clock would."""
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=ahead_s)
    body = {"status": {"lastActiveTime": now.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    for stream in ("pi1", "pi2"):
        where = {"namespace": farm.namespace, "patch_type": PatchType.MERGE}
        farm.cluster.client.patch(ScaledJob.Status, name_of(stream), body, **where)


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
