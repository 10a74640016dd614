"""Why a stream does not run, by its ScaledJob, Jobs, pods and what is said about its Jobs."""

from __future__ import annotations

from typing import Any

import pytest
from farm_objects import NOW_S, job, pod, scaled_job

from posture.kube.objects import Job, Pod, ScaledJob
from posture.kube.troubles import STEADY_S, Complaint, trouble_of

QUOTA = Complaint("FailedCreate", "exceeded quota: small", NOW_S)
READY = {"ready_since_s": NOW_S - 3.0, "created_s": NOW_S - 5.0}


def made(of: str, s_ago: float, **changes: Any) -> Pod:
    return pod(of, "nano", **{"created_s": NOW_S - s_ago, **changes})


@pytest.mark.parametrize(
    ("one", "jobs", "pods", "reason", "words"),
    [
        pytest.param(
            scaled_job(), [job("j", "nano", suspended=True)], [], "JobSuspended", "j is suspended", id="suspended"
        ),
        pytest.param(
            scaled_job(),
            [job("told", "nano")],
            [],
            QUOTA.reason,
            QUOTA.message,
            id="no pod for a reason that is told",
        ),
        pytest.param(
            scaled_job(),
            [job("told", "nano")],
            [made("told", 60, phase="Failed")],
            QUOTA.reason,
            QUOTA.message,
            id="no other pod after the one that has ended",
        ),
        pytest.param(
            scaled_job(),
            [job("told", "nano")],
            [made("told", -60, phase="Failed")],
            "NoPod",
            "no pod yet",
            id="a pod was made since",
        ),
        pytest.param(scaled_job(), [job("j", "nano")], [], "NoPod", "no pod yet", id="no pod yet"),
        pytest.param(
            scaled_job(),
            [job("j", "nano", deleting=True, held_by=("example.com/hold",))],
            [],
            "JobHeld",
            "example.com/hold",
            id="held by a finalizer of others",
        ),
        pytest.param(
            scaled_job(),
            [job("j", "nano")],
            [pod("j", "", phase="Pending", trouble="Unschedulable", why="0/2 nodes are available")],
            "Unschedulable",
            "0/2 nodes are available",
            id="no node takes it",
        ),
        pytest.param(
            scaled_job(),
            [job("j", "nano", finished=True), job("k", "nano")],
            [made("j", 9, phase="Succeeded", status=0), made("k", 5, **READY)],
            "KeepsEnding",
            "with status 0",
            id="ends with 0 again and again",
        ),
        pytest.param(
            scaled_job(),
            [job("j", "nano")],
            [made("j", 9, phase="Failed", status=3), made("j", 5, **READY)],
            "KeepsEnding",
            "with status 3",
            id="crashes again and again",
        ),
        pytest.param(
            scaled_job(),
            [job("j", "nano"), job("by-hand", "nano")],
            [made("j", 900, **READY), made("by-hand", 5, **READY)],
            "TooManyPods",
            "2 pods at once",
            id="a replica by hand",
        ),
        pytest.param(scaled_job(paused=True), [], [], "Paused", "make no Job", id="paused"),
        pytest.param(
            scaled_job(ready=False, complaint="no such Secret"), [], [], "NotReady", "no such Secret", id="refused"
        ),
        pytest.param(scaled_job(active=False), [], [], "NotActive", "every node is full", id="full"),
        pytest.param(scaled_job(), [job("j", "nano", finished=True)], [], "NoJob", "next poll", id="between two"),
    ],
)
def test_a_stream_that_does_not_run_has_a_reason_and_words(
    one: ScaledJob, jobs: list[Job], pods: list[Pod], reason: str, words: str
) -> None:
    trouble = trouble_of(one, jobs, pods, {"uid-told": QUOTA}, NOW_S)
    assert trouble is not None
    assert trouble.reason == reason
    assert words in trouble.message


@pytest.mark.parametrize(
    ("jobs", "pods"),
    [
        pytest.param([job("j", "nano")], [made("j", 5, **READY)], id="alone"),
        pytest.param(
            [job("j", "nano")], [made("old", 900, deleting=True), made("j", 5, **READY)], id="another is going"
        ),
        pytest.param(
            [job("j", "nano")],
            [made("old", 5 + STEADY_S + 1, phase="Failed", status=1), made("j", 5, **READY)],
            id="the one before ran for long",
        ),
        pytest.param(
            [job("j", "nano")],
            [made("old", 29, phase="Failed", status=1), made("j", 16, ready_since_s=1.0)],
            id="it has outlived the one before",
        ),
    ],
)
def test_a_stream_with_one_ready_pod_runs(jobs: list[Job], pods: list[Pod]) -> None:
    assert trouble_of(scaled_job(), jobs, pods, {"uid-j": QUOTA}, NOW_S) is None
