"""The steps of a move, without a cluster: see tests/cluster/test_move.py for them on one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from farm_objects import job, pod, scaled_job
from hypothesis import given
from hypothesis import strategies as st

from posture.balancer.moves import Close, DeleteJob, DeletePod, Redirect, Wait, next_steps
from posture.balancer.open_move import OpenMove
from posture.kube.annotations import MOVE, PINNED
from posture.kube.objects import Job, Pod, ScaledJob
from posture.planning.model import Move, MoveKind

TO_NANO = Move(MoveKind.OFFLOAD, "pi1", "agx", "nano", {"": 20.0}, {"": 45.0}, 80.0, 5.0, "agx is too full")
MOVING = {MOVE: OpenMove("abc", TO_NANO, 0.0).to_text()}


def alive(host: str) -> bool:
    del host
    return False


def dead(host: str) -> bool:
    return host == "agx"


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
    gone, ready = pod("gone", deleting=True), pod("new", "nano", ready_since_s=1.0)
    assert next_steps(scaled_job(), [job("new", "nano")], [gone, ready], dead, True) == [Close()]


def test_of_two_new_jobs_the_oldest_stays() -> None:
    first, second = job("b", "nano", 1.0), job("a", "nano", 2.0)
    assert next_steps(scaled_job(), [second, first], [], alive, True) == [DeleteJob(second, "Foreground")]


def test_a_move_is_closed_when_the_pod_of_one_unfinished_job_with_the_new_affinity_is_ready() -> None:
    jobs = [job("new", "nano"), job("done", "agx", finished=True), job("crashed", "nano", finished=True)]
    pods = [pod("done"), pod("new", "nano", ready_since_s=1.0)]
    assert next_steps(scaled_job(), jobs, pods, alive, True) == [Close()]


@pytest.mark.parametrize(
    "pods",
    [
        pytest.param([], id="no pod"),
        pytest.param([pod("new", "nano", phase="Pending")], id="Pending"),
        pytest.param([pod("new", "nano")], id="Running, not Ready"),
        pytest.param([pod("crashed", "nano", phase="Failed"), pod("new", "nano")], id="another Job's"),
    ],
)
def test_a_move_is_not_finished_before_its_pod_is_ready(pods: list[Pod]) -> None:
    jobs = [job("new", "nano"), job("crashed", "nano", finished=True)]
    assert next_steps(scaled_job(), jobs, pods, alive, True) == [Wait("the pod of Job new to be Ready")]


def test_without_a_new_job_the_move_waits_for_keda() -> None:
    (step,) = next_steps(scaled_job(), [], [], alive, True)
    assert isinstance(step, Wait)


def test_an_affinity_that_was_edited_away_ends_the_move_without_a_deletion() -> None:
    assert next_steps(scaled_job(None), [job("old", "agx")], [], alive, True) == [Close()]


@pytest.mark.parametrize("written", ["agx", "orin", None])
@pytest.mark.parametrize(
    ("jobs", "pods"),
    [
        pytest.param([job("old", "agx")], [pod("old")], id="the old Job is there"),
        pytest.param([], [], id="it is gone"),
        pytest.param([job("new", "nano")], [pod("new", "nano", ready_since_s=1.0)], id="the new one runs"),
    ],
)
def test_an_affinity_that_others_write_in_mid_move_is_written_anew_and_deletes_no_job(
    written: str | None, jobs: list[Job], pods: list[Pod]
) -> None:
    edited = scaled_job(written, annotations=MOVING)
    assert next_steps(edited, jobs, pods, alive, True) == [Redirect("nano")]
    assert next_steps(scaled_job("nano", annotations=MOVING), jobs, pods, alive, True) != [Redirect("nano")]


def test_the_affinity_of_a_stream_that_a_person_pins_in_mid_move_is_what_counts() -> None:
    old, pinned = job("old", "nano"), MOVING | {PINNED: "true"}
    steps = next_steps(scaled_job("agx", annotations=pinned), [old], [pod("old", "nano")], alive, True)
    assert steps == [DeleteJob(old, "Foreground")]
    assert next_steps(scaled_job(None, annotations=pinned), [old], [], alive, True) == [Close()]


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
        self.pods[f"uid-pod-{new.name}"] = pod(new.name, str(self.scaled_job.node), ready_since_s=1.0)

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
