"""The balancer's parts without a cluster: a move's steps, what is read, what is remembered. See tests/cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gpu_exporter import gpu_queries
from hypothesis import given, settings
from hypothesis import strategies as st

import cpu_monitor_and_offload
import gpu_balancer
import patch_scaledjob
from posture.balancer import last_node, plan_text
from posture.balancer.disturbances import Settling
from posture.balancer.moves import Close, DeleteJob, DeletePod, Wait, next_steps
from posture.balancer.open_move import OpenMove
from posture.balancer.snapshot import SnapshotMaker
from posture.balancer.view import ClusterView
from posture.balancer.watch import Watch
from posture.kube import affinity
from posture.kube.objects import Job, Node, Pod, ScaledJob, seconds
from posture.planning import model
from posture.planning.ledger import Ledger
from posture.planning.model import Keda, Move, MoveKind, Phase, Rules
from posture.planning.offloads import plan_offloads
from posture.usage.readings import UsageUnknownError
from posture.usage.window import Average

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = 500
NOW_S = 1_700_000_000.0

MOVE = Move(MoveKind.OFFLOAD, "pi1", "agx", "nano", 20.0, 45.0, 80.0, 5.0, "agx is over the threshold")


def scaled_job(node: str | None = "nano", **changes: Any) -> ScaledJob:
    spec = {"affinity": affinity.with_node(None, node)} if node else {}
    return dataclasses.replace(
        ScaledJob("sj", "pi1", "uid", 2, node, {}, spec, 1.0, True, True, False, NOW_S), **changes
    )


def job(name: str, node: str, created_s: float = 0.0, **changes: Any) -> Job:
    return Job(name, f"uid-{name}", "sj", created_s, node, **changes)


def pod(of: str, host: str = "agx", **changes: Any) -> Pod:
    return dataclasses.replace(Pod(f"pod-{of}", f"uid-pod-{of}", "sj", f"uid-{of}", host, "Running"), **changes)


def alive(host: str) -> bool:
    del host
    return False


def dead(host: str) -> bool:
    return host == "agx"


# the steps of a move


def test_the_old_job_goes_by_a_foreground_deletion() -> None:
    old = job("old", "agx")
    assert next_steps(scaled_job(), [old], [pod("old")], alive, True) == [DeleteJob(old, "Foreground")]


def test_a_job_on_a_live_node_waits_for_keda() -> None:
    (step,) = next_steps(scaled_job(), [job("old", "agx")], [pod("old")], alive, False)
    assert isinstance(step, Wait)
    assert "keda_away" in step.what


def test_a_job_on_a_dead_node_goes_in_the_background_with_or_without_keda() -> None:
    old = job("old", "agx")
    for keda in (True, False):
        assert next_steps(scaled_job(), [old], [pod("old")], dead, keda) == [DeleteJob(old, "Background")]


def test_a_foreground_deletion_that_hangs_on_a_dead_node_is_freed() -> None:
    old = job("old", "agx", deleting=True)
    assert next_steps(scaled_job(), [old], [pod("old", deleting=True)], dead, True) == [
        DeleteJob(old, "Background")
    ]


def test_a_job_that_is_going_is_waited_for() -> None:
    steps = next_steps(scaled_job(), [job("old", "agx", deleting=True)], [pod("old", deleting=True)], alive, True)
    assert [type(step) for step in steps] == [Wait]


def test_a_pod_that_has_outlived_its_job_is_deleted_and_never_one_whose_job_is_there() -> None:
    orphan, current = pod("gone"), pod("new", "nano")
    steps = next_steps(scaled_job(), [job("new", "nano")], [orphan, current], alive, True)
    assert steps == [DeletePod(orphan)]


def test_pods_of_a_dead_node_are_left_to_it() -> None:
    steps = next_steps(scaled_job(), [job("new", "nano")], [pod("gone", deleting=True)], dead, True)
    assert steps == [Close()]


def test_of_two_new_jobs_the_oldest_stays() -> None:
    first, second = job("b", "nano", 1.0), job("a", "nano", 2.0)
    assert next_steps(scaled_job(), [second, first], [], alive, True) == [DeleteJob(second, "Foreground")]


def test_a_move_is_closed_when_one_unfinished_job_with_the_new_affinity_is_there() -> None:
    jobs = [job("new", "nano"), job("done", "agx", finished=True), job("crashed", "nano", finished=True)]
    assert next_steps(scaled_job(), jobs, [pod("done"), pod("new", "nano")], alive, True) == [Close()]


def test_without_a_new_job_the_move_waits_for_keda() -> None:
    (step,) = next_steps(scaled_job(), [], [], alive, True)
    assert isinstance(step, Wait)


def test_an_affinity_that_was_edited_away_ends_the_move_without_a_deletion() -> None:
    assert next_steps(scaled_job(None), [job("old", "agx")], [], alive, True) == [Close()]


@dataclasses.dataclass
class Cluster:
    """KEDA and the controllers, as far as a move meets them."""

    scaled_job: ScaledJob
    jobs: dict[str, Job]
    pods: dict[str, Pod]
    made: int = 0
    lagging: bool = False
    """KEDA's cache doesn't yet show the Job that it has just made."""

    def poll(self) -> None:
        if not self.lagging and any(not one.finished for one in self.jobs.values()):
            return
        self.made += 1
        new = job(f"made-{self.made}", str(self.scaled_job.node), float(self.made))
        self.jobs[new.uid] = new
        self.pods[f"uid-pod-{new.name}"] = pod(new.name, str(self.scaled_job.node))

    def let_go(self) -> None:
        """Pods that are deleted end; then Jobs that were deleted in the foreground are gone."""
        self.pods = {uid: one for uid, one in self.pods.items() if not one.deleting}
        owners = {one.job_uid for one in self.pods.values()}
        self.jobs = {uid: one for uid, one in self.jobs.items() if not one.deleting or uid in owners}

    def take(self, step: Any) -> bool:
        """Do as asked; return whether the move is closed."""
        if isinstance(step, DeleteJob) and step.job.uid in self.jobs:
            self.jobs[step.job.uid] = dataclasses.replace(step.job, deleting=True)
            self.pods = {
                uid: dataclasses.replace(one, deleting=True) if one.job_uid == step.job.uid else one
                for uid, one in self.pods.items()
            }
        elif isinstance(step, DeletePod) and step.pod.uid in self.pods:
            self.pods[step.pod.uid] = dataclasses.replace(step.pod, deleting=True)
        return isinstance(step, Close)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    turns=st.lists(st.sampled_from(["poll", "lagging poll", "let go", "look", "act"]), max_size=30),
    crashes=st.sets(st.integers(0, 30)),
)
def test_whatever_happens_when_a_move_ends_with_one_job_on_the_right_node(
    turns: list[str], crashes: set[int]
) -> None:
    old = job("old", "agx")
    cluster = Cluster(scaled_job("nano"), {old.uid: old}, {"uid-pod-old": pod("old")})
    steps: list[Any] = []
    closed = False
    seen = 0
    for turn, what in enumerate([*turns, *["let go", "poll", "let go", "look", *["act"] * 4] * 12]):
        if turn in crashes:
            steps = []
        if what == "look" or (what == "act" and not steps):
            seen = cluster.made
            steps = next_steps(cluster.scaled_job, cluster.jobs.values(), cluster.pods.values(), alive, True)
        elif what == "act":
            closed = cluster.take(steps.pop(0))
        elif what == "let go":
            cluster.let_go()
        else:
            cluster.lagging = what == "lagging poll"
            cluster.poll()
        if closed:
            break
    assert closed
    cluster.let_go()
    # a Job that KEDA has doubled since the last look is seen by nobody; the broker ends one of the two
    doubled = cluster.made - seen
    left = [one.node for one in cluster.jobs.values() if not one.finished and not one.deleting]
    assert left == ["nano"] * (1 + doubled)
    assert [one.host for one in cluster.pods.values()] == left


def test_an_open_move_survives_its_annotation() -> None:
    opened = OpenMove("abc", MOVE, NOW_S)
    assert OpenMove.from_text(opened.to_text()) == opened
    assert json.loads(opened.to_text())["source"] == "agx"


@pytest.mark.parametrize(
    "text",
    [
        *("", "yes", "[]", "{}", '{"id": 1, "began_s": "x"}', "null", "[" * 100_000),
        OpenMove("abc", MOVE, NOW_S).to_text().replace('"agx"', '["agx"]'),
        re.sub(r'"relief": [^,]*', '"relief": "much"', OpenMove("abc", MOVE, NOW_S).to_text()),
    ],
)
def test_an_annotation_that_is_no_move_is_none(text: str) -> None:
    assert OpenMove.from_text(text) is None


# the affinity

NAMES = st.sampled_from(["gpu-node", "zone", "disk"])
EXPRESSIONS = st.fixed_dictionaries(
    {
        "key": NAMES,
        "operator": st.sampled_from(["In", "NotIn"]),
        "values": st.lists(st.sampled_from("abc"), min_size=1),
    }
)
TERMS = st.fixed_dictionaries({}, optional={"matchExpressions": st.lists(EXPRESSIONS, max_size=3)})
AFFINITIES = st.fixed_dictionaries(
    {},
    optional={
        "podAntiAffinity": st.just({"x": 1}),
        "nodeAffinity": st.fixed_dictionaries(
            {},
            optional={
                "requiredDuringSchedulingIgnoredDuringExecution": st.fixed_dictionaries(
                    {"nodeSelectorTerms": st.lists(TERMS, min_size=1, max_size=3)}
                ),
                "preferredDuringSchedulingIgnoredDuringExecution": st.just([{"weight": 1}]),
            },
        ),
    },
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(before=AFFINITIES)
def test_a_node_is_required_in_every_term_and_nothing_else_is_lost(before: dict[str, Any]) -> None:
    frozen = json.dumps(before)
    after = affinity.with_node(before, "nano")
    assert json.dumps(before) == frozen
    assert affinity.node_of(after) == "nano"
    assert affinity.with_node(after, "nano") == after
    old, new = terms(before) or [{}], terms(after)
    assert len(old) == len(new)
    for one, other in zip(old, new, strict=True):
        kept = [item for item in one.get("matchExpressions", []) if item["key"] != "gpu-node"]
        assert other["matchExpressions"][:-1] == kept
    assert {**after, "nodeAffinity": None} == {**before, "nodeAffinity": None}


def terms(of: dict[str, Any]) -> list[dict[str, Any]]:
    required = of.get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return list(required.get("nodeSelectorTerms", []))


def test_an_affinity_that_leaves_a_choice_names_no_node() -> None:
    both = {"key": "gpu-node", "operator": "In", "values": ["agx", "nano"]}
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [both]}]}
    }
    assert affinity.node_of({"nodeAffinity": required}) is None
    assert affinity.node_of(None) is None


@pytest.mark.parametrize(
    ("operator", "limit", "label", "allowed"),
    [("Gt", "4", "5", True), ("Lt", "4", "5", False), ("Gt", "big", "5", False), ("Lt", "4", "--5", False)],
)
def test_a_limit_that_is_no_number_lets_no_node_in_and_stops_nothing(
    operator: str, limit: str, label: str, allowed: bool
) -> None:
    expression = {"key": "memory", "operator": operator, "values": [limit]}
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [expression]}]
        }
    }
    assert affinity.allows({"nodeAffinity": required}, None, {"memory": label}) is allowed
    assert not affinity.allows({"nodeAffinity": required}, None, {})


# what is read


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


# what is seen over time


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def node(name: str, **changes: Any) -> Node:
    base = Node(name, name, True, False, {"gpu-node": name}, (), {"cpu": "4", "memory": "8Gi"})
    return dataclasses.replace(base, **changes)


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


def view(one: ScaledJob, jobs: list[Job], pods: list[Pod], taken_s: float = NOW_S, *nodes: Node) -> ClusterView:
    known = {each.host: each for each in nodes or (node("agx"), node("nano"))}
    return ClusterView(taken_s, known, {one.stream: one}, {one.name: jobs}, {one.name: pods})


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


# the planner's input


def make(seen: ClusterView, **averages: float) -> model.Snapshot:
    found = {name: Average(value, 6, NOW_S - 30, NOW_S) for name, value in averages.items()}
    return SnapshotMaker(Ledger(Rules()), Watch()).make(seen, found, frozenset())


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


def test_a_start_disturbs_its_node_until_it_has_settled() -> None:
    ledger = Ledger(Rules())
    settling = Settling(ledger, after_ready_s=20.0)
    jobs = [job("j", "agx")]
    settling.see(view(scaled_job("agx"), jobs, [pod("j", phase="Pending")]))
    ledger.window(NOW_S, {"agx": 10.0})
    assert not ledger.node("agx").clean
    ready = view(scaled_job("agx"), jobs, [pod("j", ready_since_s=NOW_S + 10)])
    settling.see(dataclasses.replace(ready, taken_s=NOW_S + 10))
    ledger.window(NOW_S + 29, {"agx": 10.0})
    assert not ledger.node("agx").clean
    assert settling.unsettled(NOW_S + 29) == {"pi1"}
    ledger.window(NOW_S + 30, {"agx": 10.0})
    assert ledger.node("agx").clean
    assert settling.unsettled(NOW_S + 30) == frozenset()


@pytest.mark.parametrize("wrong", ["the node's clock is an hour ahead", "the clock is set back by an hour"])
def test_a_wrong_clock_does_not_keep_a_node_from_settling(wrong: str) -> None:
    ledger = Ledger(Rules())
    settling = Settling(ledger, after_ready_s=20.0)
    ready = view(scaled_job("agx"), [job("j", "agx")], [pod("j", ready_since_s=NOW_S + 3600)])
    if "set back" in wrong:
        settling.see(dataclasses.replace(ready, taken_s=NOW_S + 3600))
    settling.see(dataclasses.replace(ready, taken_s=NOW_S))
    for start_s, clean in ((NOW_S + 19, False), (NOW_S + 21, True)):
        ledger.window(start_s, {"agx": 10.0})
        assert ledger.node("agx").clean is clean
        assert (settling.unsettled(start_s) == frozenset()) is clean


def test_the_plan_in_words_has_every_number() -> None:
    seen = view(scaled_job("agx"), [job("j", "agx")], [pod("j", ready_since_s=NOW_S)])
    snapshot = make(seen, agx=80.0, nano=5.0)
    plan = plan_offloads(snapshot, Rules(), random.Random(1))
    text = "\n".join(plan_text.lines(snapshot, plan, Rules()))
    assert "node agx: 80.0 %, 1 streams" in text
    assert "veto agx: unplaceable (usage 80, smallest_job 80)" in text
    assert "1 overloaded; 0 to move; vetoes: unplaceable 1" in plan_text.summary(snapshot, plan)


def test_a_missing_metric_is_explained() -> None:
    maker = SnapshotMaker(Ledger(Rules()), Watch())
    why = UsageUnknownError("agx", None, "gpu{} is stale")
    snapshot = maker.make(view(scaled_job("agx"), [], []), {"agx": why}, frozenset())
    assert snapshot.nodes[0].usage is None
    assert "gpu{} is stale" in plan_text.summary(snapshot, plan_offloads(snapshot, Rules(), random.Random(1)))


# what is remembered


def test_the_last_destination_is_remembered_with_its_time(tmp_path: Path) -> None:
    file = tmp_path / "last_node.txt"
    assert last_node.read(file) is None
    last_node.write(file, "nano", NOW_S)
    assert file.read_text() == "nano 2023-11-14T22:13:20Z\n"
    assert last_node.read(file) == ("nano", NOW_S)
    assert [path.name for path in tmp_path.iterdir()] == ["last_node.txt"]
    file.write_text("what is this?\n")
    assert last_node.read(file) is None
    last_node.write(tmp_path / "no" / "folder", "nano", NOW_S)  # only warns


# the script


def mistakes(*flags: str, file: Path | None = None, **environment: str) -> list[str]:
    done = subprocess.run(  # noqa: PLW1510
        [sys.executable, str(ROOT / "gpu_balancer.py"), *(["--config", str(file)] if file else []), *flags],
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
        env={"PATH": os.environ["PATH"], **environment},
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def write_settings(path: Path) -> Path:
    queries = {name: dataclasses.asdict(query) for name, query in gpu_queries("agx").items()}
    path.write_text(json.dumps({"GPU_QUERIES": queries}))
    return path


def test_all_flags_that_are_not_accepted_are_reported_at_once(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "cluster.yaml")
    said = mistakes("--policy", "best", "--threshold", "101", "--interval", "-1", file=file)
    assert said == [
        "error: --policy: 'best' is not accepted; accepted: guarded or readme",
        "--threshold: '101' is not accepted; accepted: 0 to 100",
        "--interval: '-1' is not accepted; accepted: a number of at least 0",
    ]


def test_a_window_of_less_than_two_samples_is_refused(tmp_path: Path) -> None:
    (said,) = mistakes("--window", "9", file=write_settings(tmp_path / "cluster.yaml"))
    assert "balancer.window_s: 9 is not accepted; accepted: at least two samples" in said


def test_without_gpu_queries_there_is_nothing_to_balance(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("balancer: {threshold: 60}\n")
    (said,) = mistakes("--once", file=file)
    assert "GPU_QUERIES is empty" in said


def test_without_credentials_the_error_says_where_they_are_looked_for(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "cluster.yaml")
    said = mistakes("--once", file=file, KUBECONFIG=str(tmp_path / "none"))
    assert said[-1].startswith("error: no Kubernetes credentials:")
    assert str(tmp_path / "none") in said[-1]


def test_flags_win_over_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_settings(tmp_path / "cluster.yaml")
    monkeypatch.setenv("GPU_THRESHOLD", "40")
    assert gpu_balancer.load_settings(gpu_balancer.parse(["--config", str(file)])).balancer.threshold == 40
    flags = gpu_balancer.parse(["--config", str(file), "--threshold", "60", "--window", "10"])
    loaded = gpu_balancer.load_settings(flags).balancer
    assert (loaded.threshold, loaded.window_s) == (60, 10)


def test_importing_the_script_reads_nothing(tmp_path: Path) -> None:
    code = "import gpu_balancer; print(type(gpu_balancer.GPU_QUERIES).__name__)"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout == "GpuQueries\n"


def test_the_three_scheduling_scripts_meet_the_reader_with_the_same_map() -> None:
    scripts = [gpu_balancer, cpu_monitor_and_offload, patch_scaledjob]
    assert len({id(script.GPU_QUERIES) for script in scripts}) == 1
    for script in scripts:
        first_lines = Path(script.__file__).read_text().splitlines()[:45]
        assert "GPU_QUERIES = loading.GPU_QUERIES" in first_lines, script.__name__
