"""Quotas that admit each pod, and not all; a real one: tests/cluster/.../test_streams_without_pods.py."""

from __future__ import annotations

from typing import Any

import pytest

from posture.lifecycle.preflight.quotas import needed_by, too_small
from posture.manifests import files

STREAMS = [f"hall-{number}" for number in range(1, 11)]
NEEDED = needed_by({one.stream: one.data() for one in files.of_streams(STREAMS)})


def quota(resource: str, hard: str, used: str = "0", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "small", "namespace": "posture-farm"},
        "spec": {"hard": {resource: hard}, **spec},
        "status": {"used": {resource: used}},
    }


@pytest.mark.parametrize("resource", ["pods", "count/pods", "count/jobs.batch"])
def test_a_quota_with_room_for_fewer_pods_than_streams_is_found(resource: str) -> None:
    (finding,) = too_small(quota(resource, "12", "3"), NEEDED, 10)
    assert finding.what == (
        f"quota small has too little {resource} for 10 more streams: they take 10, and 3 of 12 are used"
    )
    assert finding.mend == "kubectl -n posture-farm edit quota small"
    assert not list(too_small(quota(resource, "13", "3"), NEEDED, 10))


@pytest.mark.parametrize("resource", ["cpu", "requests.cpu", "memory", "requests.memory", "limits.memory"])
def test_processors_and_memory_are_added_up_in_the_quotas_own_units(resource: str) -> None:
    assert [one.what for one in too_small(quota(resource, "100m"), NEEDED, 10)]
    assert not list(too_small(quota(resource, "100Ti"), NEEDED, 10))


def test_what_a_quota_counts_and_streams_do_not_take_is_no_matter() -> None:
    assert not list(too_small(quota("services", "0"), NEEDED, 10))
    assert not list(too_small(quota("pods", "0", scopes=["Terminating"]), NEEDED, 10)), "it counts other pods"
