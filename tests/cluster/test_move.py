"""A move on the real control plane, with KEDA polling each second."""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from balancing import HISTORY, MOVE, WAIT_S, Balancer, Farm, annotations
from control_plane import ScaledJob
from killing_proxy import KillingProxy
from nodes import SimulatedNode
from scaled_jobs import name_of

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


def test_prefix_match_pi1_moves_and_pi1_1_is_untouched(farm: Farm) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1-1", busy, annotations=PINNED)
    farm.add_stream("pi1", busy)
    before = farm.scaled_job("pi1-1"), farm.job_uids("pi1-1")
    assert farm.balancer("--once").wait() == 0
    farm.until_moved("pi1", idle)
    assert farm.job_uids("pi1-1") == before[1]
    assert unchanged(farm.scaled_job("pi1-1")) == unchanged(before[0])


def unchanged(scaled_job: Any) -> Any:
    """All of it but the note that it runs."""
    notes = {name: text for name, text in annotations(scaled_job).items() if name != "posture-farm/state"}
    return scaled_job["spec"], notes, scaled_job.metadata.generation


def test_a_balancer_killed_after_any_request_of_a_move_leaves_nothing_to_repair(
    farm: Farm, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    here, there = farm.add_nodes(10, 10)
    here.termination_delay_s = there.termination_delay_s = 0.3
    farm.add_stream("pi1", here)
    proxy = KillingProxy(farm.cluster.kubeconfig, tmp_path)

    def start() -> Balancer:
        # to the letter: neither cooldown nor what was learned keeps the stream from moving again and again
        return farm.balancer("--policy", "readme", kubeconfig=proxy.kubeconfig, lease_s=3.0)

    balancer, killed, downtimes = start(), True, []
    while killed:
        proxy.kill_in_next_move(balancer.kill)
        with farm.downtime("pi1") as downtime:
            farm.set_usage(here, 90)
            killed = proxy.wait_for_end(WAIT_S)
            farm.set_usage(here, 10)
            if killed:
                assert balancer.process.returncode == -signal.SIGKILL
                balancer = start()
            farm.until_moved("pi1", there)
        downtimes.append(downtime.seconds)
        here, there = there, here
    proxy.close()
    print(f"killed after: {', '.join(proxy.killed_after)}")
    print(f"downtime: median {statistics.median(downtimes):.1f} s, longest {max(downtimes):.1f} s")
    record_property("downtimes_s", downtimes)
    assert {"1 PATCH scaledjobs", "3 DELETE jobs", "4 PATCH scaledjobs"} <= set(proxy.killed_after)


def test_a_concurrent_edit_aborts_the_move(farm: Farm, tmp_path: Path) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    before = farm.job_uids("pi1")
    proxy = KillingProxy(farm.cluster.kubeconfig, tmp_path)
    # between the balancer's reading and its patch
    edit = [{"op": "replace", "path": "/spec/pollingInterval", "value": 2}]
    proxy.before("PATCH", "scaledjobs", lambda: farm.edit("pi1", edit))
    balancer = farm.balancer("--once", kubeconfig=proxy.kubeconfig)
    balancer.wait()
    proxy.close()
    assert "was edited meanwhile" in balancer.said()
    assert farm.job_uids("pi1") == before
    assert MOVE not in annotations(farm.scaled_job("pi1"))
    assert farm.scaled_job("pi1").spec["pollingInterval"] == 2
    assert "Traceback" not in balancer.said()
    assert farm.events("pi1") == []
    farm.until_on("pi1", busy)
    assert farm.balancer("--once").wait() == 0
    farm.until_moved("pi1", idle)


@pytest.mark.parametrize(("verb", "plural"), [("PATCH", "scaledjobs"), ("DELETE", "jobs")])
def test_a_camera_that_is_deleted_in_mid_move_stops_no_other_move(
    farm: Farm, tmp_path: Path, verb: str, plural: str
) -> None:
    hottest, hot, idle = farm.add_nodes(90, 80, 10)
    farm.add_stream("pi1", hottest)
    farm.add_stream("pi2", hot)
    proxy = KillingProxy(farm.cluster.kubeconfig, tmp_path)
    proxy.before(verb, plural, lambda: delete_camera(farm, "pi1"))
    balancer = farm.balancer("--once", "--policy", "readme", kubeconfig=proxy.kubeconfig)
    status = balancer.wait()
    proxy.close()
    assert status == 0, balancer.said()
    farm.until_moved("pi2", idle)
    assert "the API server answers again" not in balancer.said()
    assert "Traceback" not in balancer.said()


def test_a_single_loop_ends_although_the_only_camera_that_it_moves_is_deleted(farm: Farm, tmp_path: Path) -> None:
    busy, _ = farm.add_nodes(90, 10)
    farm.add_stream("pi1", busy)
    proxy = KillingProxy(farm.cluster.kubeconfig, tmp_path)
    proxy.before("DELETE", "jobs", lambda: delete_camera(farm, "pi1"))
    balancer = farm.balancer("--once", "--policy", "readme", kubeconfig=proxy.kubeconfig)
    status = balancer.wait()
    proxy.close()
    assert status == 0, balancer.said()
    assert "the API server answers again" not in balancer.said()


def delete_camera(farm: Farm, stream: str) -> None:
    gone = name_of(stream)
    farm.cluster.client.delete(ScaledJob, gone, namespace=farm.namespace)
    # KEDA's finalizer keeps it for a moment
    farm.cluster.until(ScaledJob, farm.namespace, lambda found: gone not in {one.metadata.name for one in found})


def die(node: SimulatedNode) -> None:
    node.die()


def cordon(node: SimulatedNode) -> None:
    node.cordon()


def delete(node: SimulatedNode) -> None:
    node.delete()


@pytest.mark.parametrize("fall", [die, cordon, delete])
def test_a_stream_whose_destination_falls_in_mid_move_ends_on_another_node(
    farm: Farm, tmp_path: Path, fall: Callable[[SimulatedNode], None]
) -> None:
    busy, chosen, other, _ = farm.add_nodes(80, 5, 20, 60)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    proxy = KillingProxy(farm.cluster.kubeconfig, tmp_path)
    proxy.before("PATCH", "scaledjobs", lambda: fall(chosen))
    balancer = farm.balancer(kubeconfig=proxy.kubeconfig, node_grace_s=3.0)
    farm.until_moved("pi1", other)
    proxy.close()
    assert f"offload from {busy.name} to {chosen.name}" in balancer.said()
    assert f"failover from {chosen.name} to {other.name}" in balancer.said()


def test_a_stream_whose_source_dies_while_its_job_is_being_deleted_starts_on_the_destination(
    farm: Farm, tmp_path: Path
) -> None:
    busy, idle, *_ = farm.add_nodes(80, 10, 60, 60)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    proxy = KillingProxy(farm.cluster.kubeconfig, tmp_path)
    proxy.before("DELETE", "jobs", busy.die)
    balancer = farm.balancer(kubeconfig=proxy.kubeconfig, node_grace_s=3.0)
    farm.until_ready("pi1", idle)
    balancer.wait_for("(Foreground)", "(Background)", f"pi1: runs on {idle.name}")
    proxy.close()
    assert {pod.spec.nodeName for pod in farm.pods("pi1")} == {busy.name, idle.name}  # one hangs in Terminating
    busy.revive()
    farm.until_moved("pi1", idle)
