"""build_and_push.py and stop.py as an operator runs them, on a real control plane with KEDA."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from control_plane import Cluster, ScaledJob
from deployed import REVIEWS, account, granted
from life import Checkout, everything
from lightkube import ApiError
from lightkube.resources.admissionregistration_v1 import (
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Node, PersistentVolumeClaim, Pod, Secret
from lightkube.types import CascadeType, PatchType
from nodes import Kubelets
from pods import Fault
from scaled_jobs import affinity, is_ready, name_of, scaled_job
from watching import unready_streams

from posture.kube.client import connect
from posture.lifecycle.rollout import Rollout
from posture.runtime import Stop
from posture.settings.table import Kubernetes
from posture.system import recorded_processes

UP = ("build_and_push.py", "--skip-build")


def places(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Stream -> the node where its one pod is Ready."""
    pods = [pod for pod in cluster.client.list(Pod, namespace=namespace) if is_ready(pod)]
    return {pod.metadata.labels["posture-farm/stream"]: pod.spec.nodeName for pod in pods}


def names(cluster: Cluster, kind: type[Any], namespace: str) -> set[str]:
    return {item.metadata.name for item in cluster.client.list(kind, namespace=namespace)}


def test_enter_stops_the_farm_a_second_run_brings_it_back_and_deleting_leaves_no_trace(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    checkout.environ["KUBECONFIG"] = str(account(cluster, namespace, "posture-operator"))
    before = everything(cluster)
    run = checkout.start(*UP, "--master", "agx")
    run.until_it_says("press ENTER")
    assert places(cluster, namespace) == {"pi1": "nano", "pi2": "nano"}
    assert [taint.key for taint in cluster.client.get(Node, "agx").spec.taints] == ["default.posture-farm/master"]
    run.press_enter()
    assert run.wait() == 0, run.said
    assert names(cluster, ScaledJob, namespace) == {name_of("pi1"), name_of("pi2")}
    assert f"kept, paused: scaledjob {name_of('pi1')}, {name_of('pi2')}" in run.said
    assert not names(cluster, Job, namespace)
    assert not names(cluster, Pod, namespace)
    assert not cluster.client.get(Node, "agx").spec.taints

    again = checkout.start(*UP)
    again.until_it_says("press ENTER")
    assert places(cluster, namespace) == {"pi1": "nano", "pi2": "nano"}
    again.press_enter()
    assert again.wait() == 0, again.said

    checkout.run("stop.py", "--delete-scaledjobs", "--clean")
    assert everything(cluster) == before
    assert not list(checkout.folder.glob("patched-job-*.yaml"))
    assert not list(checkout.records.glob("scaler.json"))
    assert cluster.asked_by(namespace, "posture-operator") - {REVIEWS} <= granted("posture-operator")


def test_ctrl_c_at_the_prompt_stops_the_farm(checkout: Checkout, cluster: Cluster, namespace: str) -> None:
    run = checkout.start(*UP)
    run.until_it_says("press ENTER")
    run.interrupt()
    assert run.wait() == 0, run.said
    assert "stopped" in run.said
    assert not names(cluster, Pod, namespace)
    assert recorded_processes.find("scaler", checkout.records) is None


def test_ctrl_c_while_streams_start_says_what_was_done_and_a_second_run_goes_on(
    checkout: Checkout, cluster: Cluster, namespace: str, nodes: Kubelets
) -> None:
    checkout.machines["nano"].fault = Fault.NEVER_READY
    run = checkout.start(*UP)
    run.until_it_says("Ready on agx")
    # KEDA may be later with the other one
    cluster.until(Pod, namespace, lambda pods: [pod.status.phase for pod in pods] == ["Running"] * 2)
    run.interrupt()
    assert run.wait() == 130, run.said
    assert "done so far:" in run.said
    assert f"apply scaledjob {name_of('pi1')}   (undo: kubectl -n {namespace} delete scaledjob" in run.said
    assert "undo all of it: python3 stop.py --delete-scaledjobs --clean" in run.said
    assert "Traceback" not in run.said
    checkout.machines["nano"].fault = None
    job = {item.metadata.name for item in cluster.client.list(Job, namespace=namespace)}
    (stuck,) = (pod for pod in cluster.client.list(Pod, namespace=namespace) if not is_ready(pod))
    nodes.end_pod(namespace, stuck.metadata.name, 1)
    again = checkout.start(*UP)
    again.until_it_says("press ENTER")
    assert places(cluster, namespace) == {"pi1": "agx", "pi2": "nano"}
    assert names(cluster, Job, namespace) == job, "a second run starts nothing anew that runs"


# failures, one at each step


def deny(cluster: Cluster, name: str, group: str, resource: str, condition: str) -> Callable[[], None]:
    """Let the API server refuse what a CEL condition holds for, once it is no dry run; returns what ends that."""
    rule = {"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": f"request.dryRun || !({condition})", "message": "the test says no"}],
        },
    }  # fmt: skip
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
    }  # fmt: skip
    cluster.create(None, policy, binding)

    def end() -> None:
        cluster.client.delete(ValidatingAdmissionPolicyBinding, name)
        cluster.client.delete(ValidatingAdmissionPolicy, name)

    return end


@dataclass(frozen=True)
class Failure:
    """What goes wrong in one step, and what must have been done before it."""

    cause: Callable[[Checkout, Cluster], Callable[[], None]]
    failed: str
    reason: str
    done: str


def taint_is_denied(checkout: Checkout, cluster: Cluster) -> Callable[[], None]:
    """No node can be tainted."""
    del checkout
    # a policy takes a moment to be in force; there is no event for that
    end = deny(cluster, "no-taint", "", "nodes", "has(object.spec.taints)")
    await_denial(cluster)

    def end_and_wait() -> None:
        end()
        await_denial(cluster, denied=False)

    return end_and_wait


def await_denial(cluster: Cluster, *, denied: bool = True) -> None:
    """Wait until the policy is in force; or, after its end, until it is no longer: new nodes come with a taint."""
    probe = [{"op": "add", "path": "/spec/taints", "value": [{"key": "test/probe", "effect": "NoSchedule"}]}]
    undo = [{"op": "remove", "path": "/spec/taints"}]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            cluster.client.patch(Node, "nano", probe, patch_type=PatchType.JSON)
        except ApiError:
            if denied:
                return
            continue
        cluster.client.patch(Node, "nano", undo, patch_type=PatchType.JSON)
        if not denied:
            return
    raise AssertionError(f"the policy is {'never' if denied else 'for ever'} in force")


def file_cant_be_written(checkout: Checkout, cluster: Cluster) -> Callable[[], None]:
    """There is a folder where the patched ScaledJob should go."""
    del cluster
    (checkout.folder / "patched-job-pi2.yaml").mkdir()
    return (checkout.folder / "patched-job-pi2.yaml").rmdir


def scaler_ends(checkout: Checkout, cluster: Cluster) -> Callable[[], None]:
    """The scaler ends at its start."""
    del cluster
    path = checkout.folder / "cpu_monitor_and_offload.py"
    text = path.read_text()
    path.write_text("import sys\nprint('no scaler today', file=sys.stderr)\nsys.exit(3)\n")
    return lambda: path.write_text(text) and None


def second_scaled_job_is_denied(checkout: Checkout, cluster: Cluster) -> Callable[[], None]:
    """The API server takes one of the two ScaledJobs, and not the other."""
    del checkout
    return deny(cluster, "no-pi2", "keda.sh", "scaledjobs", f"object.metadata.name == '{name_of('pi2')}'")


def image_cant_be_pulled(checkout: Checkout, cluster: Cluster) -> Callable[[], None]:
    """One node can't pull."""
    del cluster
    checkout.settings["kubernetes"]["start_timeout_s"] = 30
    checkout.write_settings()
    checkout.machines["nano"].fault = Fault.IMAGE_PULL
    return lambda: setattr(checkout.machines["nano"], "fault", None)


FAILURES = {
    "taint": Failure(taint_is_denied, "taint node agx", "the test says no", "nothing"),
    "place": Failure(file_cant_be_written, "place the streams", "patched-job-pi2.yaml", "nothing"),
    "scaler": Failure(scaler_ends, "start the scaler", "no scaler today", "place the streams"),
    "apply": Failure(second_scaled_job_is_denied, f"apply scaledjob {name_of('pi2')}", "the test says no",
                     f"apply scaledjob {name_of('pi1')}"),
    "wait": Failure(image_cant_be_pulled, "wait until", "ImagePullBackOff", f"apply scaledjob {name_of('pi2')}"),
}  # fmt: skip


@pytest.mark.parametrize("step", FAILURES)
def test_a_step_that_fails_is_told_with_what_was_done_and_can_be_undone_without_a_trace(
    checkout: Checkout, cluster: Cluster, step: str
) -> None:
    before = everything(cluster)
    failure = FAILURES[step]
    master = ("--master", "agx") if step == "taint" else ()
    mend = failure.cause(checkout, cluster)
    try:
        said = checkout.run(*UP, *master, status=1)
    finally:
        mend()
    told = said[said.index("error: ") :]
    assert told.startswith(f"error: {failure.failed}")
    assert failure.reason in told
    assert failure.done in told[told.index("done so far:") : told.index("not finished:")]
    assert "undo all of it: python3 stop.py --delete-scaledjobs --clean" in told
    assert "Traceback" not in said
    checkout.run("stop.py", "--delete-scaledjobs", "--clean")
    assert everything(cluster) == before


# other people's objects, and what is gone already


def test_other_peoples_jobs_and_pods_with_similar_names_stay_untouched(
    checkout: Checkout, cluster: Cluster, namespace: str, stub_scaler: Any
) -> None:
    def pod(name: str, **labels: str) -> dict[str, Any]:
        containers = [{"name": "c", "image": "i"}]
        return {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"containers": containers, "nodeName": "agx", "automountServiceAccountToken": False},
        }  # fmt: skip

    def job(name: str, **labels: str) -> dict[str, Any]:
        template = {"metadata": {"labels": labels}, "spec": {**pod(name)["spec"], "restartPolicy": "Never"}}
        return {
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": labels},
            "spec": {"template": template},
        }  # fmt: skip

    stub_scaler.active, stub_scaler.value = True, 1
    other = scaled_job("pi1-1", "agx", stub_scaler.address)
    for labels in (other["metadata"]["labels"], other["spec"]["jobTargetRef"]["template"]["metadata"]["labels"]):
        labels["posture-farm/farm"] = "other"
    with cluster.fresh_namespace() as elsewhere:
        theirs = scaled_job("pi1", "nano", stub_scaler.address)
        cluster.create(
            elsewhere, theirs, pod("posture-analyzer-scaledjob-pi1-x"), job("posture-analyzer-scaledjob-pi2")
        )
        cluster.create(
            namespace,
            other,
            pod("posture-analyzer-scaledjob-pi1-abcde"),
            job(f"{name_of('pi1')}-1", **{"app.kubernetes.io/part-of": "posture-farm"}),
            pod("posture-scaler", **{"posture-farm/stream": "pi1"}),
        )
        cluster.until(Pod, elsewhere, lambda pods: sum(map(is_ready, pods)) == 3)
        cluster.until(Pod, namespace, lambda pods: sum(map(is_ready, pods)) == 4)

        def others() -> set[tuple[str, str]]:
            found = [item for where in (namespace, elsewhere) for kind in (ScaledJob, Job, Pod)
                     for item in cluster.client.list(kind, namespace=where)]  # fmt: skip
            mine = {"app.kubernetes.io/part-of": "posture-farm", "posture-farm/farm": "default"}
            return {
                (item.metadata.name, item.metadata.uid) for item in found
                if item.metadata.namespace == elsewhere or not mine.items() <= (item.metadata.labels or {}).items()
            }  # fmt: skip

        before = others()
        assert len(before) >= 12
        run = checkout.start(*UP)
        run.until_it_says("press ENTER")
        run.press_enter()
        assert run.wait() == 0, run.said
        checkout.run("stop.py", "--delete-scaledjobs")
        assert others() == before
        assert not [name for name in names(cluster, Job, namespace) if name.startswith(f"{name_of('pi2')}-")]


def test_stop_finishes_what_is_half_gone_and_may_be_run_twice(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    before = everything(cluster)
    checkout.run(*UP, "--no-wait")
    cluster.until(Pod, namespace, lambda pods: sum(map(is_ready, pods)) == 2)
    record = recorded_processes.find("scaler", checkout.records)
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    cluster.client.delete(ScaledJob, name_of("pi2"), namespace=namespace)
    said = checkout.run("stop.py", "--delete-scaledjobs", "--clean")
    assert "stop the scaler" not in said
    assert everything(cluster) == before
    checkout.run("stop.py", "--delete-scaledjobs", "--clean")
    assert everything(cluster) == before


def test_stop_ends_although_a_node_is_dead_and_names_the_pod_that_hangs_there(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    checkout.settings["kubernetes"]["stop_timeout_s"] = 15
    checkout.write_settings()
    checkout.run(*UP, "--no-wait")
    cluster.until(Pod, namespace, lambda pods: sum(map(is_ready, pods)) == 2)
    checkout.machines["nano"].die()
    said = checkout.run("stop.py", "--delete-scaledjobs")
    (left,) = cluster.client.list(Pod, namespace=namespace)
    assert f"left: pod {left.metadata.name}; it goes when node nano is back or removed" in said
    cluster.until(Job, namespace, lambda jobs: not jobs)
    checkout.machines["nano"].revive()
    cluster.until(Pod, namespace, lambda pods: not pods)


def test_while_keda_is_away_the_scaled_jobs_cant_go_and_that_is_said(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    checkout.settings["kubernetes"]["stop_timeout_s"] = 15
    checkout.write_settings()
    before = everything(cluster)
    checkout.run(*UP, "--no-wait")
    cluster.until(Pod, namespace, lambda pods: sum(map(is_ready, pods)) == 2)
    cluster.keda.kill()
    said = checkout.run("stop.py", "--delete-scaledjobs", "--clean", status=1)
    assert f"error: KEDA doesn't let {name_of('pi1')}, {name_of('pi2')} go; is its operator running?" in said
    assert not names(cluster, Pod, namespace)
    said = checkout.run(*UP, "--dry-run", status=2)
    assert f"error: scaledjob {name_of('pi1')} is being deleted" in said
    cluster.keda.start()
    checkout.settings["kubernetes"]["stop_timeout_s"] = 60
    checkout.write_settings()
    checkout.run("stop.py", "--delete-scaledjobs", "--clean")
    assert everything(cluster) == before


# the scaler on this machine


def test_a_scaler_that_dies_while_the_farm_runs_is_started_again(checkout: Checkout, cluster: Cluster) -> None:
    run = checkout.start(*UP)
    run.until_it_says("press ENTER")
    record = recorded_processes.find("scaler", checkout.records)
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    run.until_it_says("the scaler has ended with status -9; it is started again in 1 s")
    deadline = time.monotonic() + 60
    while (again := recorded_processes.find("scaler", checkout.records)) is None or again.pid == record.pid:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.press_enter()
    assert run.wait() == 0, run.said
    assert recorded_processes.find("scaler", checkout.records) is None


def test_with_standard_input_closed_the_farm_runs_on_and_stop_py_stops_it(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    said = checkout.run(*UP)
    assert "standard input is closed" in said
    assert recorded_processes.find("scaler", checkout.records) is not None
    assert len(places(cluster, namespace)) == 2
    checkout.run("stop.py")
    assert recorded_processes.find("scaler", checkout.records) is None
    assert not names(cluster, Pod, namespace)


# an upgrade


def test_a_second_run_on_a_running_farm_is_an_upgrade_one_stream_at_a_time_where_each_is(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    first = checkout.start(*UP)
    first.until_it_says("press ENTER")
    # as the balancer would: pi2 is on agx, too, from now on
    place = [{"op": "replace", "path": "/spec/jobTargetRef/template/spec/affinity", "value": affinity("agx")}]
    cluster.client.patch(ScaledJob, name_of("pi2"), place, namespace=namespace, patch_type=PatchType.JSON)
    (moved,) = (item for item in cluster.client.list(Job, namespace=namespace)
                if item.metadata.labels["posture-farm/stream"] == "pi2")  # fmt: skip
    cluster.client.delete(Job, moved.metadata.name, namespace=namespace, cascade=CascadeType.FOREGROUND)
    cluster.until(Pod, namespace, lambda pods: [pod.spec.nodeName for pod in pods if is_ready(pod)] == ["agx"] * 2)

    with unready_streams(cluster, namespace) as unready:
        second = checkout.start(*UP, "--tag", "v2")
        second.until_it_says("press ENTER")
    assert places(cluster, namespace) == {"pi1": "agx", "pi2": "agx"}
    images = {pod.spec.containers[0].image for pod in cluster.client.list(Pod, namespace=namespace)}
    assert images == {"127.0.0.1:9/posture-pi1:v2", "127.0.0.1:9/posture-pi2:v2"}
    assert {"pi1"} in unready
    assert {"pi2"} in unready
    assert {"pi1", "pi2"} not in unready
    first.until_it_says("taken over from elsewhere")
    assert first.wait() == 0
    second.press_enter()
    assert second.wait() == 0, second.said


def test_a_stream_that_the_balancer_moves_between_plan_and_upgrade_stays_where_it_went(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    cluster.create(namespace, scaled_job("pi1", "nano", "127.0.0.1:9"))
    with connect(Kubernetes(namespace=namespace, timeout_s=30)) as client:
        rollout = Rollout(client, "default", 1, Stop(), print)
        planned = scaled_job("pi1", "agx", "127.0.0.1:9", polling_s=7)
        applied = rollout.apply(planned)["spec"]
    assert applied["pollingInterval"] == 7
    assert applied["jobTargetRef"]["template"]["spec"]["affinity"] == affinity("nano")


# what is looked at first


def test_every_finding_about_the_cluster_comes_at_once_and_nothing_is_touched(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    cluster.client.delete(Secret, "posture-farm", namespace=namespace)
    cluster.client.patch(Node, "nano", {"metadata": {"labels": {"gpu-node": None}}})
    cluster.client.patch(Node, "agx", {"metadata": {"labels": {"kubernetes.io/arch": "arm64"}}})
    # the node controller repeats it in a label of its own
    cluster.until(Node, None, lambda found: any("beta.kubernetes.io/arch" in one.metadata.labels for one in found))
    checkout.settings["GPU_QUERIES"]["nano"]["instance"] = "away.test:9100"
    checkout.settings["GPU_QUERIES"]["gone"] = {"instance": "gone.test:9100", "metric": "gpu_usage_percent"}
    checkout.write_settings()
    path = checkout.folder / "posture-job-pi2.yaml"
    text = path.read_text().replace("pollingInterval: 1", "pollingInterval: 1\n  pollingIntervall: 1")
    claim = "persistentVolumeClaim: {claimName: pictures}"
    path.write_text(text.replace("emptyDir: {}", claim, 1))
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    pictures = {"metadata": {"name": "pictures", "namespace": namespace}, "spec": spec}
    cluster.client.create(PersistentVolumeClaim.from_dict(pictures))
    crd = "scaledjobs.keda.sh"
    old: dict[str, Any] = {"metadata": {"labels": {"app.kubernetes.io/version": "2.16.1"}}}
    cluster.client.patch(CustomResourceDefinition, crd, old)
    before = everything(cluster)
    try:
        said = checkout.run(*UP, "--master", "nobody", status=2)
    finally:
        old["metadata"]["labels"]["app.kubernetes.io/version"] = None
        cluster.client.patch(CustomResourceDefinition, crd, old)
    for part in (
        "error: secret posture-farm does not exist",
        f"kubectl -n {namespace} create secret generic posture-farm",
        "error: node nano lacks the label gpu-node=nano",
        "mend: kubectl label node nano gpu-node=nano",
        "warning: GPU_QUERIES names gone",
        "error: node agx is linux/arm64, and images are built for linux/amd64",
        "mend: python3 build_and_push.py --platforms linux/amd64,linux/arm64",
        "warning: no GPU usage of nano",
        "error: stream pi1 would write its rows to SQLite",
        "error: the master nobody is no node of this cluster",
        "error: claim pictures is ReadWriteOnce: it would hold its streams on one node",
        "pollingIntervall",
        "warning: KEDA 2.16.1 is older than 2.20",
        "warning: pi1, pi2 will run on the CPU",
    ):
        assert part in said
    assert "Traceback" not in said
    before[f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions//{crd}"]["metadata"].pop("labels")
    assert everything(cluster) == before
    assert not list(checkout.folder.glob("patched-job-*.yaml"))


def test_a_dry_run_shows_every_command_and_touches_nothing(checkout: Checkout, cluster: Cluster) -> None:
    before = everything(cluster)
    said = checkout.run(*UP, "--dry-run", "--master", "agx")
    for command in (
        "kubectl taint node agx default.posture-farm/master=true:NoSchedule",
        f"{checkout.folder / 'cpu_monitor_and_offload.py'}",
        "kubectl apply --server-side --field-manager=posture-farm -f patched-job-pi1.yaml",
        "kubectl apply --server-side --field-manager=posture-farm -f patched-job-pi2.yaml",
    ):
        assert command in said
    assert everything(cluster) == before
    assert not list(checkout.folder.glob("patched-job-*.yaml"))
    assert not checkout.records.exists()


def test_the_only_node_that_can_take_a_stream_is_not_tainted(checkout: Checkout, cluster: Cluster) -> None:
    checkout.machines["nano"].cordon()
    said = checkout.run(*UP, "--master", "agx", status=2)
    assert "error: the master agx is the only node where a stream can run" in said
    assert not cluster.client.get(Node, "agx").spec.taints
