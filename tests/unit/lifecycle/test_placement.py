"""First placement: which nodes qualify, drawn once, the same in both scripts."""

from __future__ import annotations

from unittest.mock import sentinel

import pytest

from posture.errors import FailedError
from posture.kube.objects import Node
from posture.lifecycle import placement
from posture.lifecycle.bring_up import Farm, Options
from posture.lifecycle.preflight.findings import Survey
from posture.lifecycle.scaler_here import LocalScaler
from posture.manifests import files
from posture.runtime import ROOT
from posture.settings.table import Kubernetes, Settings
from posture.usage.readings import Reading, SignalReading, UsageUnknownError

IDLE = dict.fromkeys(("n1", "n2", "n3", "n4"), Reading({"gpu": SignalReading(0.0, 0.0, ())}))
MANIFESTS = files.load(sorted(ROOT.glob("posture-job-pi*.yaml")))


def node(name: str, *, ready: bool = True) -> Node:
    return Node(name, name, ready, False, {"gpu-node": name}, (), {})


def farm(seed: int | None = None, **nodes: bool) -> Farm:
    """A farm that is about to go up on four idle nodes."""
    found = [node(name, ready=nodes.get(name, True)) for name in IDLE]
    survey = Survey(True, found, {}, dict(IDLE))
    scaler = LocalScaler(Settings().scaler, None, ROOT / "run" / "nowhere")
    return Farm(
        Settings(), Options(build=False, seed=seed), MANIFESTS, sentinel.cluster, survey, scaler,
        sentinel.in_cluster, "127.0.0.1:50051", sentinel.stop,
    )  # fmt: skip


def as_patch_scaledjob(seed: int | None) -> dict[str, str]:
    before = {one.stream: one.node for one in MANIFESTS}
    return dict(placement.place(before, {}, placement.qualifying(Settings(), IDLE), seed).nodes)


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_the_plan_that_is_shown_is_the_plan_that_is_written(seed: int | None) -> None:
    going_up = farm(seed)
    (shown,) = (step.what for step in going_up.steps() if step.what.startswith("place the streams"))
    written = {stream: one.node for stream, one in going_up.patched(going_up.placement.nodes).items()}
    assert shown == "place the streams: " + ", ".join(f"{one} goes on {to}" for one, to in written.items())


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_both_scripts_place_alike(seed: int | None) -> None:
    assert farm(seed).placement.nodes == as_patch_scaledjob(seed)


def test_other_seeds_draw_other_nodes() -> None:
    assert len({tuple(farm(seed).placement.nodes.items()) for seed in range(20)}) > 1


def test_the_extra_stream_goes_where_the_scarcer_signal_is_lowest_and_each_is_shown() -> None:
    def reading(gpu: float, cpu: float) -> Reading:
        return Reading({"gpu": SignalReading(gpu, 0.0, ()), "cpu": SignalReading(cpu, 0.0, ())})

    plan = placement.place({"pi1": None}, {}, {"n1": reading(0.0, 70.0), "n2": reading(40.0, 10.0)}, 0)
    assert plan.nodes == {"pi1": "n2"}
    told = placement.table(plan.rows)
    assert "70.0 % (gpu 0.0, cpu 70.0)  0 -> 0" in told[1]
    assert "40.0 % (gpu 40.0, cpu 10.0)  0 -> 1" in told[2]


def test_a_node_that_cannot_take_streams_says_why() -> None:
    going_up = farm(n1=False, n2=False, n3=False)
    assert set(going_up.placement.nodes.values()) == {"n4"}
    assert {row.node: row.why for row in going_up.placement.rows}["n1"] == "is not Ready"


def test_the_master_takes_no_stream_whether_or_not_the_cluster_is_asked() -> None:
    settings = Settings(kubernetes=Kubernetes(master="n1"))
    for nodes in (None, [node(name) for name in IDLE]):
        found = placement.qualifying(settings, IDLE, nodes)
        assert [name for name, one in found.items() if isinstance(one, UsageUnknownError)] == ["n1"]


def test_without_any_usage_nothing_is_placed_but_what_has_its_node_keeps_it() -> None:
    unknown = {"n1": UsageUnknownError("n1", None, "has no sample")}
    with pytest.raises(FailedError, match=r"n1.*has no sample"):
        placement.place({"pi1": None}, {}, unknown, None)
    assert placement.place({"pi1": "n1"}, {"pi1": "n1"}, unknown, None).nodes == {"pi1": "n1"}


def test_nodes_that_take_no_stream_are_told_in_the_order_in_which_people_count() -> None:
    silent = {name: UsageUnknownError(name, None, "has no sample") for name in ("m10", "m2")}
    pinned = {f"pi{number}": f"old-{number}" for number in (10, 9)}
    plan = placement.place(dict.fromkeys(pinned), pinned, {**IDLE, **silent}, 0)
    assert [row.node for row in plan.rows] == [*IDLE, "m2", "m10", "old-9", "old-10"]
