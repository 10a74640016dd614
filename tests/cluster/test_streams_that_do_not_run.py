"""A stream that does not run, and a move that hangs, are told with Kubernetes' own reason."""

from __future__ import annotations

import itertools
import json
import re
import threading
from functools import partial
from typing import Any

import pytest
import requests
from balancing import MOVE, WAIT_S, Balancer, Farm, annotations
from control_plane import ScaledJob, are_counted
from lightkube.codecs import from_dict
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Event, Pod, ResourceQuota
from lightkube.types import CascadeType, PatchType
from nodes import Fault
from scaled_jobs import is_ready, name_of
from servers import free_port
from watching import wait_for

PINNED = {"posture-farm/pinned": "true"}
HOLD = "example.com/hold"


def figures(port: int) -> str:
    return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text


def until_told(farm: Farm, stream: str, reason: str, *words: str) -> str:
    """Wait for an Event of the balancer on the stream's ScaledJob; return its message."""

    def told(events: Any) -> list[str]:
        ours = [one for one in events if one.involvedObject.name == name_of(stream) and one.reason == reason]
        return [one.message for one in ours if all(word in one.message for word in words)]

    return told(farm.cluster.until(Event, farm.namespace, lambda events: bool(told(events)), timeout_s=WAIT_S))[0]


def suspend(farm: Farm, job: Any) -> None:
    farm.cluster.client.patch(Job, job.metadata.name, {"spec": {"suspend": True}}, namespace=farm.namespace)


def hold(farm: Farm, job: Any, *, delete_it: bool = True) -> None:
    finalizers = {"metadata": {"finalizers": [*(job.metadata.finalizers or []), HOLD]}}
    farm.cluster.client.patch(Job, job.metadata.name, finalizers, namespace=farm.namespace)
    if delete_it:
        delete(farm, job)


def let_go(farm: Farm, stream: str) -> None:
    """A finalizer of nobody's would keep the namespace."""
    for job in farm.jobs(stream):
        if HOLD in (job.metadata.finalizers or []):
            operations = [{"op": "remove", "path": "/metadata/finalizers"}]
            where = {"namespace": farm.namespace, "patch_type": PatchType.JSON}
            farm.cluster.client.patch(Job, job.metadata.name, operations, **where)


def start_another(farm: Farm, job: Any) -> None:
    """As ``kubectl get -o yaml``, edit and create do."""
    copied = job.to_dict()
    del copied["status"], copied["spec"]["selector"]
    kept = {key: copied["metadata"][key] for key in ("labels", "ownerReferences")}
    copied["metadata"] = {**kept, "name": "by-hand"}
    labels = copied["spec"]["template"]["metadata"]["labels"]
    of_job = [key for key in labels if key.endswith(("controller-uid", "job-name"))]
    for key in of_job:
        del labels[key]
    for key in of_job:
        copied["metadata"]["labels"].pop(key, None)
    farm.cluster.client.create(from_dict(copied), namespace=farm.namespace)
    # before a quota that comes next refuses it
    farm.cluster.until(
        Pod, farm.namespace, lambda pods: any(pod.metadata.name.startswith("by-hand-") for pod in pods)
    )


def refuse_pods(farm: Farm) -> None:
    """By a quota named small, which is in force when this returns."""
    hard = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
    farm.cluster.create(farm.namespace, {**hard, "spec": {"hard": {"pods": "1"}}})
    farm.cluster.until(ResourceQuota, farm.namespace, are_counted)


def delete(farm: Farm, job: Any) -> None:
    where = {"namespace": farm.namespace, "cascade": CascadeType.FOREGROUND}
    farm.cluster.client.delete(Job, job.metadata.name, **where)


def test_each_stream_that_does_not_run_is_named_with_its_reason_in_events_metrics_and_annotation(
    farm: Farm, request: pytest.FixtureRequest
) -> None:
    node, _ = farm.add_nodes(10, 10)
    harms = {
        "pi1": (suspend, "JobSuspended", "is suspended"),
        "pi2": (hold, "JobHeld", HOLD),
        "pi3": (start_another, "TooManyPods", "by-hand"),
        "pi4": (delete, "FailedCreate", "exceeded quota: small"),
    }
    for stream in (*harms, "pi5"):
        farm.add_stream(stream, node, wait=False)
    for stream in (*harms, "pi5"):
        farm.until_on(stream, node)
    port = free_port()
    balancer = farm.balancer(metrics_port=port)
    balancer.wait_for("0 overloaded")

    def running(stream: str) -> str:
        return f'posture_stream_running{{node="{node.name}",stream="{stream}"}}'

    wait_for(lambda: all(f"{running(stream)} 1.0" in figures(port) for stream in (*harms, "pi5")))
    request.addfinalizer(lambda: let_go(farm, "pi2"))
    for stream, (harm, _, _) in harms.items():
        (job,) = farm.jobs(stream)
        if stream == "pi4":
            # the fourth of the pods that are left is one too many
            refuse_pods(farm)
        harm(farm, job)
    for stream, (_, reason, words) in harms.items():
        until_told(farm, stream, "StreamDown", reason, words)
        shown = figures(port)
        assert f"{running(stream)} 0.0" in shown
        assert f'posture_stream_trouble{{node="{node.name}",reason="{reason}",stream="{stream}"}} 1.0' in shown
    farm.cluster.until(
        ScaledJob,
        farm.namespace,
        lambda found: (
            {state_of(one).split(" since 20")[0] for one in found}
            == {*(reason for _, reason, _ in harms.values()), f"Running on {node.name}"}
        ),
        timeout_s=WAIT_S,
    )
    assert f"{running('pi5')} 1.0" in figures(port)
    dry_run = farm.balancer("--once", "--dry-run")
    assert dry_run.wait() == 0
    assert "stream pi1 does not run: JobSuspended: " in dry_run.said()
    assert "\nstable" not in dry_run.said()
    (job,) = farm.jobs("pi1")
    farm.cluster.client.delete(ResourceQuota, "small", namespace=farm.namespace)
    farm.cluster.client.patch(Job, job.metadata.name, {"spec": {"suspend": False}}, namespace=farm.namespace)
    until_told(farm, "pi1", "StreamRuns")


def state_of(scaled_job: Any) -> str:
    return annotations(scaled_job).get("posture-farm/state", "")


def test_nothing_is_moved_while_a_quota_refuses_the_pods_of_several_streams(farm: Farm, nodes: Any) -> None:
    busy, idle = farm.add_nodes(80, 10)
    refused, staying = ("pi1", "pi2"), ("pi3", "pi4", "pi5")
    for stream in (*refused, *staying):
        farm.add_stream(stream, busy, wait=False)
    for stream in (*refused, *staying):
        farm.until_on(stream, busy)
    before = farm.job_uids(*staying)
    refuse_pods(farm)
    (job,), (pod,) = farm.jobs("pi1"), farm.pods("pi2")
    delete(farm, job)
    nodes.end_pod(farm.namespace, pod.metadata.name, 1)  # it stays with its Job, which gets no other

    def told(events: Any) -> bool:
        return len({one.involvedObject.uid for one in events if one.reason == "FailedCreate"}) >= len(refused)

    farm.cluster.until(Event, farm.namespace, told, timeout_s=WAIT_S)
    balancer = farm.balancer()
    said = balancer.wait_for("1 overloaded", count=3)
    assert f"not moved: {busy.name}: pods_refused (streams 2)" in said
    assert farm.job_uids(*staying) == before
    farm.cluster.client.delete(ResourceQuota, "small", namespace=farm.namespace)
    balancer.wait_for(f"offload from {busy.name} to {idle.name}")


def test_an_analyzer_that_ends_with_0_again_and_again_is_not_called_running(farm: Farm, nodes: Any) -> None:
    node, _ = farm.add_nodes(10, 10)
    farm.add_stream("pi1", node)
    farm.balancer()
    over = threading.Event()

    def end_each_pod() -> None:
        for _ in itertools.takewhile(lambda _: not over.wait(0.2), itertools.count()):
            for pod in farm.pods("pi1"):
                if is_ready(pod):
                    nodes.end_pod(farm.namespace, pod.metadata.name, 0)

    ending = threading.Thread(target=end_each_pod)
    ending.start()
    try:
        until_told(farm, "pi1", "StreamDown", "KeepsEnding", "with status 0")
    finally:
        over.set()
        ending.join()


def test_a_move_is_finished_when_its_pod_is_ready_and_one_that_hangs_says_what_it_waits_for(farm: Farm) -> None:
    busy, idle = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    idle.fault = Fault.STUCK
    port = free_port()
    # it is told once, and by then has to be as far as the pod
    balancer = farm.balancer(metrics_port=port, start_timeout_s=20.0, pull_timeout_s=900.0)
    until_told(
        farm, "pi1", "MoveHangs", f"offload from {busy.name} to {idle.name}", "to be Ready", "ContainerCreating"
    )
    assert [reason for reason, _ in farm.events("pi1") if reason == "MoveFinished"] == []
    assert MOVE in annotations(farm.scaled_job("pi1"))
    labels = f'destination="{idle.name}",source="{busy.name}",stream="pi1"'
    assert re.search(rf"posture_balancer_move_open_seconds\{{{labels}\}} [\d.]+", figures(port))
    idle.fault = None
    farm.set_usage(busy, 10)
    (stuck,) = (pod for pod in farm.pods("pi1") if not is_ready(pod))
    farm.cluster.client.delete(Pod, stuck.metadata.name, namespace=farm.namespace, grace_period=0)
    farm.until_moved("pi1", idle)
    until_told(farm, "pi1", "MoveFinished", f"runs on {idle.name}")
    wait_for(lambda: "posture_balancer_move_open_seconds{" not in figures(port))
    (move,) = json.loads(annotations(farm.scaled_job("pi1"))["posture-farm/moves"])
    assert (move["kind"], move["from"], move["to"]) == ("offload", busy.name, idle.name)
    assert f"{busy.name} comes from 80" in move["why"]
    assert move["at"] <= move["ready_at"]
    assert state_of(farm.scaled_job("pi1")) == f"Running on {idle.name}"
    assert balancer.stop() == 0


def test_a_move_that_a_finalizer_of_others_holds_up_names_it(farm: Farm, request: pytest.FixtureRequest) -> None:
    busy, idle = farm.add_nodes(10, 10)
    farm.add_stream("pi1", busy)
    farm.add_stream("pi2", busy, annotations=PINNED)
    request.addfinalizer(partial(let_go, farm, "pi1"))
    (job,) = farm.jobs("pi1")
    hold(farm, job, delete_it=False)
    farm.set_usage(busy, 80)
    # it is told once, and by then the Job's pod has to be gone
    farm.balancer(start_timeout_s=15.0)
    until_told(farm, "pi1", "MoveHangs", f"offload from {busy.name} to {idle.name}", "JobHeld", HOLD)
    farm.set_usage(busy, 10)
    let_go(farm, "pi1")
    farm.until_moved("pi1", idle)


def test_an_overloaded_node_from_which_nothing_moves_is_named_with_the_veto(farm: Farm) -> None:
    busy, _ = farm.add_nodes(80, 10)
    farm.add_stream("pi1", busy, annotations=PINNED)
    port = free_port()
    balancer: Balancer = farm.balancer(metrics_port=port)
    balancer.wait_for("1 overloaded")
    wait_for(lambda: 'reason="pinned"' in figures(port))
    shown = figures(port)
    assert f'posture_balancer_node_overloaded{{node="{busy.name}"}} 1.0' in shown
    assert f'posture_balancer_veto{{node="{busy.name}",reason="pinned",stream="pi1"}} 1.0' in shown
    assert 'posture_balancer_acting{farm="default"} 1.0' in shown
