"""What others do on the farm's nodes: whose pods come and go, and which other farm's streams are on their way."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from farm_objects import NOW_S, pod, scaled_job, view

from posture.balancer.open_move import OpenMove
from posture.balancer.others import arrivals, came_or_went
from posture.balancer.view import ClusterView
from posture.kube.annotations import MOVE
from posture.kube.objects import Pod
from posture.planning.model import Arrival, Move, MoveKind

OFFLOAD = Move(
    MoveKind.OFFLOAD, "pi1", "agx", "nano", {"": 20.0}, {"": 45.0}, 80.0, 5.0, "agx is over the threshold"
)
UNBOUND = pod("it", "", phase="Pending")
BOUND = pod("it", phase="Pending")
READY = pod("it", ready_since_s=NOW_S)


@pytest.mark.parametrize(
    ("before", "now", "disturbed"),
    [
        pytest.param(None, UNBOUND, False, id="waits for a node"),
        pytest.param(UNBOUND, BOUND, True, id="bound"),
        pytest.param(BOUND, READY, True, id="Ready"),
        pytest.param(READY, READY, False, id="runs on"),
        pytest.param(READY, pod("it", ready_since_s=NOW_S + 9), True, id="started anew"),
        pytest.param(READY, pod("it", deleting=True), True, id="is being deleted"),
        pytest.param(READY, pod("it", phase="Succeeded"), True, id="ended"),
        pytest.param(None, pod("it", phase="Succeeded"), True, id="came and ended"),
        pytest.param(READY, None, True, id="gone"),
        pytest.param(pod("it", phase="Succeeded"), None, False, id="had ended, and is cleared away"),
    ],
)
def test_a_pod_that_comes_or_goes_disturbs_its_node(before: Pod | None, now: Pod | None, disturbed: bool) -> None:
    def by_uid(one: Pod | None) -> dict[str, Pod]:
        return {} if one is None else {one.uid: one}

    assert came_or_went(by_uid(before), by_uid(now)) == ({"agx"} if disturbed else set())


def with_others(text: str | None = None, *pods: Pod) -> ClusterView:
    theirs = scaled_job("nano", name="theirs", farm="b", annotations={} if text is None else {MOVE: text})
    return dataclasses.replace(view(scaled_job("agx"), [], []), other_streams=[theirs], other_pods=pods)


def opened(began_s: float = NOW_S - 10, **changes: Any) -> str:
    return OpenMove("id", dataclasses.replace(OFFLOAD, **changes), began_s).to_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(opened(), (Arrival("nano", 45.0),), id="under way"),
        pytest.param(opened(NOW_S - 1000), (), id="left open by a farm that was stopped"),
        pytest.param(opened(cost={"": -400.0}), (Arrival("nano", None),), id="a cost that can't be true"),
        pytest.param(opened(cost={"": float("nan")}), (Arrival("nano", None),), id="a cost that is no number"),
        pytest.param(opened(cost={"": "much"}), (Arrival("nano", None),), id="a cost that is a word"),
        pytest.param("yes", (), id="no move"),
        pytest.param(None, (), id="at rest"),
    ],
)
def test_an_open_move_of_another_farm_is_an_arrival(text: str | None, expected: tuple[Arrival, ...]) -> None:
    assert arrivals(with_others(text), NOW_S - 50, patience_s=900.0) == expected


@pytest.mark.parametrize(
    ("ready_s", "counts"),
    [(NOW_S - 60, False), (NOW_S - 40, True), (NOW_S + 3600, False)],
    ids=["in the window", "still warming up", "by a clock that is an hour ahead"],
)
def test_another_farms_stream_is_on_its_way_until_its_load_is_in_the_window(ready_s: float, counts: bool) -> None:
    theirs, nobodys = (pod(name, scaled_job=name, ready_since_s=ready_s) for name in ("theirs", "nobodys"))
    found = arrivals(with_others(None, theirs, nobodys), NOW_S - 50, patience_s=900.0)
    assert found == ((Arrival("agx", None),) if counts else ())
