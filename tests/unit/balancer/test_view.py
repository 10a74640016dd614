"""One reading of the cluster: which pods count, and when KEDA was active. Reading itself: tests/cluster."""

from __future__ import annotations

import dataclasses
import math

from farm_objects import NOW_S, job, pod, scaled_job, view

from posture.balancer.view import owned_by


def test_pods_that_are_deleted_or_belong_to_another_node_are_not_current() -> None:
    one = scaled_job("nano")
    jobs = [job("old", "agx"), job("new", "nano"), job("gone", "nano")]
    pods = [pod("old"), pod("new", "nano"), pod("gone", "nano", deleting=True), pod("without-a-job", "nano")]
    assert view(one, jobs, pods).current_pods(one) == [pods[1]]


def test_a_scaledjob_that_was_never_active_was_so_infinitely_long_ago() -> None:
    one = scaled_job()
    assert view(one, [], [], NOW_S + 40).keda(one).last_active_age_s == 40
    # the controller's clock may be ahead
    assert view(one, [], [], NOW_S - 40).keda(one).last_active_age_s == 0
    never = dataclasses.replace(one, last_active_s=None)
    assert view(never, [], []).keda(never).last_active_age_s == math.inf


def test_jobs_belong_to_their_scaledjob_by_uid_and_pods_to_their_job() -> None:
    one = scaled_job(uid="ours")
    ours = job("ours", "nano", owner_uid="ours")
    former, labelled = job("former", "nano", owner_uid="deleted"), job("labelled", "nano", owner_uid="")
    left_over = pod("gone")
    jobs, pods = owned_by(
        [one],
        [former, ours, labelled],
        [pod("former"), pod("ours"), pod("labelled"), left_over, pod("alone", job_uid="")],
    )
    assert jobs == {"sj": [ours]}
    assert pods == {"sj": [pod("ours"), left_over]}, "what outlived its Job is still to go"
