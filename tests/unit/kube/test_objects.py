"""What the API server's objects say, read."""

from __future__ import annotations

from typing import Any

import pytest

from posture.kube import affinity
from posture.kube.objects import Pod, ScaledJob, seconds


def pod_body(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "p",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"scaledjob.keda.sh/name": "sj"},
            "ownerReferences": [{"kind": "Job", "name": "j", "uid": "uid-j"}],
        },
        "spec": {"nodeName": "agx"},
        "status": status,
    }


SCHEDULED = {"type": "PodScheduled", "status": "True"}


def container(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "c", "state": state}]


@pytest.mark.parametrize(
    ("status", "trouble", "pulling"),
    [
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
            "Unschedulable",
            False,
            id="unschedulable",
        ),
        pytest.param({"conditions": [SCHEDULED]}, "ContainerCreating", True, id="pulling"),
        pytest.param(
            {"conditions": [SCHEDULED], "containerStatuses": container(waiting={"reason": "ImagePullBackOff"})},
            "ImagePullBackOff",
            False,
            id="image",
        ),
        pytest.param({"phase": "Failed", "reason": "Evicted"}, "Evicted", False, id="evicted"),
        pytest.param(
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:01Z"}],
                "containerStatuses": container(running={"startedAt": "2026-01-01T00:00:02Z"}),
            },
            "NotReady",
            False,
            id="never ready",
        ),
        pytest.param(
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T01:00:00Z"}],
                "containerStatuses": container(running={"startedAt": "2026-01-01T00:00:02Z"}),
            },
            "",
            False,
            id="was ready",
        ),
        pytest.param(
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T01:00:00Z"}],
                "containerStatuses": container(terminated={"finishedAt": "2026-01-01T01:00:00Z"}),
            },
            "",
            False,
            id="has just ended",
        ),
        pytest.param(
            {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, "", False, id="ready"
        ),
    ],
)
def test_a_pod_says_why_it_does_not_start(status: dict[str, Any], trouble: str, pulling: bool) -> None:
    read = Pod.read(pod_body(**status))
    assert (read.trouble, read.pulling) == (trouble, pulling)
    assert read.scaled_job == "sj"


@pytest.mark.parametrize(("started", "since_s"), [("2026-01-01T00:10:00Z", 600.0), ("1970-01-01T00:00:09Z", 0.0)])
def test_a_pod_that_waits_to_be_ready_does_so_since_its_container_was_started(started: str, since_s: float) -> None:
    """One with a long pull, and one on a board that does not know the time."""
    body = pod_body(
        phase="Running",
        conditions=[{"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:00:01Z"}],
        containerStatuses=container(running={"startedAt": started}),
    )
    read = Pod.read(body)
    assert read.trouble == "NotReady"
    assert read.trouble_since_s == seconds("2026-01-01T00:00:00Z") + since_s


def test_a_scaledjob_says_what_keda_makes_of_it() -> None:
    body = {
        "metadata": {
            "name": "sj",
            "uid": "u",
            "generation": 3,
            "labels": {"posture-farm/stream": "pi1"},
            "annotations": {"posture-farm/pinned": "true"},
        },
        "spec": {
            "pollingInterval": 5,
            "jobTargetRef": {"template": {"spec": {"affinity": affinity.with_node(None, "agx")}}},
        },
        "status": {
            "lastActiveTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Active", "status": "Unknown"}],
        },
    }
    read = ScaledJob.read(body)
    assert (read.stream, read.node, read.pinned) == ("pi1", "agx", True)
    assert (read.ready, read.active, read.paused, read.polling_interval_s) == (True, False, False, 5.0)
