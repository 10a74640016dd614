"""What shows over several readings: nodes that are down, streams that fail to start."""

from __future__ import annotations

from farm_objects import NOW_S, job, node, pod, scaled_job, view

from posture.balancer.snapshot import SnapshotMaker
from posture.balancer.watch import Watch
from posture.planning.ledger import Ledger
from posture.planning.model import Phase, Rules


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_nodes_absence_counts_only_while_the_api_server_answers() -> None:
    clock = Clock()
    watch = Watch(clock)
    down = {"agx": node("agx", ready=False)}
    watch.see_nodes(down, ["gone"])
    clock.now = 50.0
    watch.see_nodes(down, ["gone"])
    assert (watch.down_s("agx"), watch.down_s("gone"), watch.contact_s) == (50.0, 50.0, 50.0)
    watch.lose_contact()
    clock.now = 500.0
    watch.see_nodes(down, ["gone"])
    assert (watch.down_s("agx"), watch.down_s("gone"), watch.contact_s) == (0.0, 0.0, 0.0)
    clock.now = 510.0
    watch.see_nodes({"agx": node("agx")})
    assert (watch.down_s("agx"), watch.down_s("gone")) == (0.0, 10.0)


def test_a_crash_loop_is_not_forgotten_in_the_moment_in_which_a_pod_is_ready() -> None:
    watch = Watch()
    one, jobs = scaled_job("agx"), [job("j", "agx")]
    crashed = pod("j", phase="Failed", trouble="Failed", trouble_since_s=NOW_S - 5)
    watch.see_streams(view(one, jobs, [crashed]), 120)
    assert watch.failing_s(view(one, jobs, []), one) == 5.0
    ready = pod("j", ready_since_s=NOW_S + 29)
    for pods, later_s in (([], 10.0), ([ready], 30.0), ([], 60.0)):
        watch.see_streams(view(one, jobs, pods, NOW_S + later_s), 120)
    assert watch.failing_s(view(one, jobs, [], NOW_S + 60), one) == 65.0
    watch.see_streams(view(one, jobs, [ready], NOW_S + 100), 120)
    assert watch.failing_s(view(one, jobs, [ready], NOW_S + 100), one) is None


def test_a_stream_whose_image_took_longer_than_any_start_may_take_stays_once_it_is_ready() -> None:
    watch = Watch()
    one, jobs = scaled_job("agx"), [job("j", "agx")]
    pulls = pod("j", phase="Pending", trouble="ContainerCreating", trouble_since_s=NOW_S, pulling=True)
    for later_s in (0.0, 300.0, 600.0):
        watch.see_streams(view(one, jobs, [pulls], NOW_S + later_s), 120)
    assert watch.failing_s(view(one, jobs, [pulls], NOW_S + 600), one) == 600.0
    loads = view(one, jobs, [pod("j", trouble="NotReady", trouble_since_s=NOW_S + 601)], NOW_S + 605)
    watch.see_streams(loads, 120)
    assert watch.failing_s(loads, one) == 4.0
    # the clock of its node is a minute ahead
    ready = view(one, jobs, [pod("j", ready_since_s=NOW_S + 670)], NOW_S + 610)
    watch.see_streams(ready, 120)
    assert watch.failing_s(ready, one) is None
    read = SnapshotMaker(Ledger(Rules()), watch).make(ready, {}, frozenset())
    assert read.jobs[0].phase is Phase.RUNNING


def test_one_crash_long_ago_is_no_failure_to_start() -> None:
    watch = Watch()
    one = scaled_job("agx")
    crashed = pod("old", phase="Failed", trouble="Failed", trouble_since_s=NOW_S - 1000)
    jobs = [job("old", "agx", finished=True), job("j", "agx")]
    watch.see_streams(view(one, jobs, [crashed, pod("j", ready_since_s=NOW_S - 1)]), 120)
    assert watch.failing_s(view(one, jobs, []), one) is None
