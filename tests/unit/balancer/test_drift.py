"""A stream is where its Job is; a drift from what is written is told and healed at most once a cooldown."""

from __future__ import annotations

import dataclasses

import pytest
from farm_objects import NOW_S, job, make, node, pod, scaled_job, view

from posture.balancer.drift import DriftWatch, drift_of
from posture.kube import affinity
from posture.planning.model import Phase

TWO = affinity.with_node(None, "nano")
TWO["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0]["matchExpressions"][
    0
]["values"] = ["nano", "orin"]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param(
            scaled_job("nano", affinity_manager="argocd"),
            "its affinity names nano (written by argocd)",
            id="another",
        ),
        pytest.param(scaled_job(None), "its affinity names no node (who changed it is not recorded)", id="removed"),
        pytest.param(
            scaled_job(None, pod_spec={"affinity": TWO}, affinity_manager="kubectl-edit"),
            "its affinity names nano or orin (written by kubectl-edit)",
            id="two",
        ),
    ],
)
@pytest.mark.parametrize("template", ["agx", None], ids=["the Job requires its node", "the Job requires none"])
def test_a_stream_is_where_its_job_is(written, told: str, template: str | None) -> None:
    jobs = [dataclasses.replace(job("j", "agx"), node=template)]
    seen = view(written, jobs, [pod("j", "agx", ready_since_s=NOW_S)])
    (read,) = make(seen, agx=80.0).jobs
    assert (read.node, read.phase) == ("agx", Phase.RUNNING)
    assert str(drift_of(seen, written)) == f"{told}, its Job is on agx"


def test_a_stream_without_a_node_of_its_own_and_without_a_job_is_named_as_unmanaged() -> None:
    one = scaled_job(None)
    snapshot = make(view(one, [], []))
    assert (snapshot.jobs, snapshot.unmanaged) == ([], ("pi1",))
    host = dataclasses.replace(node("bare"), name="", labels={})
    seen = view(one, [dataclasses.replace(job("j", ""), node=None)], [pod("j", "bare")], NOW_S, host)
    assert make(seen).unmanaged == ("pi1",)
    assert drift_of(seen, one) is None


def test_without_a_job_or_with_one_that_is_going_the_next_one_counts() -> None:
    one = scaled_job("nano")
    for jobs in ([], [job("j", "agx", finished=True)], [job("j", "agx", deleting=True)]):
        assert view(one, jobs, []).place(one) == "nano"


def test_while_a_move_is_open_its_old_job_is_no_drift() -> None:
    one = scaled_job("nano", annotations={"posture-farm/move": "{}"})
    assert drift_of(view(one, [job("j", "agx")], [pod("j", "agx")]), one) is None


def test_a_drift_that_comes_again_and_again_is_due_once_a_cooldown_which_grows() -> None:
    now_s = 0.0
    watch = DriftWatch(300.0, 4800.0, lambda: now_s)
    due = []
    for second in range(0, 3600, 60):
        now_s = float(second)
        if watch.is_due("pi1"):
            due.append(second)
    assert due == [0, 300, 900, 2100]
    assert watch.is_due("pi2")
