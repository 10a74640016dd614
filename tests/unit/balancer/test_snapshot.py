"""The planner's input, made from a reading of the cluster: snapshot.py, kube/resources.py and kube/taints.py."""

from __future__ import annotations

import dataclasses

from farm_objects import NOW_S, job, make, node, pod, scaled_job, view

from posture.balancer.snapshot import SnapshotMaker, comparable
from posture.balancer.watch import Watch
from posture.kube import affinity
from posture.kube.troubles import Complaint
from posture.planning.ledger import Ledger
from posture.planning.model import Keda, Phase, Rules
from posture.settings.signals import Signal
from posture.settings.table import GpuQuery, SignalQuery
from posture.usage.readings import UsageUnknownError
from posture.usage.window import Average


def test_a_running_stream_is_what_the_planner_sees_of_it() -> None:
    spec = {
        "affinity": affinity.with_node(None, "agx"),
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "containers": [{"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Gi"}}}],
        "nodeSelector": {"disk": "fast"},
    }
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    other = {"key": "other", "effect": "NoExecute"}
    nodes = (
        node("agx", taints=(taint,), labels={"gpu-node": "agx", "disk": "fast"}),
        node("nano", taints=(other,), labels={"gpu-node": "nano"}),
    )
    seen = view(scaled_job("agx", pod_spec=spec), [job("j", "agx")], [pod("j", ready_since_s=NOW_S)], NOW_S, *nodes)
    snapshot = make(seen, agx=80.0)
    (read,) = snapshot.jobs
    assert (read.node, read.phase, read.moving, read.pinned) == ("agx", Phase.RUNNING, False, False)
    assert read.requests == {"cpu": 0.5, "memory": 2**30}
    assert read.tolerates == {"gpu=yes:NoSchedule"}
    assert read.barred == {"nano"}
    agx, nano = snapshot.nodes
    assert (agx.usage, agx.free) == (80.0, {"cpu": 3.5, "memory": 7 * 2**30})
    assert (nano.usage, nano.why_unknown) == (None, "it is not in GPU_QUERIES")
    assert read.keda == Keda(True, True, False, 0.0, 1.0)


def test_one_signal_each_is_one_kind_whatever_it_is_called_and_of_several_the_names_count() -> None:
    def average(**signals: float) -> Average:
        return Average(signals, 6, NOW_S - 30, NOW_S)

    unknown = UsageUnknownError("odd", None, "stale")
    averages = {"agx": average(jetson=10.0), "pc": average(dcgm=20.0), "odd": unknown}
    alone = {
        "agx": GpuQuery("agx:1", "jetson"),
        "pc": SignalQuery("pc:1", (Signal("dcgm", metric="dcgm"),)),
        "odd": GpuQuery("odd:1", "jetson"),
    }
    found = comparable(averages, alone)
    assert found == {"agx": average(**{"": 10.0}), "pc": average(**{"": 20.0}), "odd": unknown}
    several = SignalQuery("odd:1", (Signal("gpu", metric="gpu"), Signal("cpu", metric="cpu")))
    assert comparable(averages, alone | {"odd": several}) == averages, "also while it is not known"


def test_a_node_that_only_an_affinity_still_names_is_down() -> None:
    snapshot = make(view(scaled_job("gone"), [job("j", "gone")], [], NOW_S))
    (gone,) = [one for one in snapshot.nodes if one.name == "gone"]
    assert (gone.ready, gone.labelled) == (False, False)


def test_a_toleration_for_a_time_is_none_for_good() -> None:
    taint = {"key": "maintenance", "effect": "NoExecute"}
    tolerations = [{"key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]
    spec = {"affinity": affinity.with_node(None, "agx"), "tolerations": tolerations}
    seen = view(scaled_job("agx", pod_spec=spec), [], [], NOW_S, node("agx"), node("nano", taints=(taint,)))
    (read,) = make(seen).jobs
    assert read.tolerates == frozenset()


def test_nodes_are_told_in_the_order_in_which_people_count() -> None:
    nodes = [node(name) for name in ("orin-10", "orin-2", "orin-1")]
    seen = view(scaled_job("orin-2"), [], [], NOW_S, *nodes)
    assert [one.name for one in make(seen).nodes] == ["orin-1", "orin-2", "orin-10"]


def test_a_stream_whose_next_pod_is_refused_does_not_fail_on_its_node() -> None:
    one = scaled_job("agx")
    crashed = pod("j", phase="Failed", trouble="Error", trouble_since_s=NOW_S - 30, created_s=NOW_S - 60)
    seen = view(one, [job("j", "agx")], [crashed], NOW_S)
    complaint = {"uid-j": Complaint("FailedCreate", "exceeded quota: small", NOW_S - 10)}
    watch = Watch()
    for reading, failing_s in ((seen, 30.0), (dataclasses.replace(seen, complaints=complaint), None)):
        watch.see_streams(reading, 120.0)
        (read,) = SnapshotMaker(Ledger(Rules()), watch).make(reading, {}, frozenset()).jobs
        assert (read.phase, read.failing_s) == (Phase.ABSENT, failing_s)
