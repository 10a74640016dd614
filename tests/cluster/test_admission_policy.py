"""A stolen token of scaler or balancer, on the real API server: what it may do, and what else it tries."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from control_plane import Cluster, ScaledJob
from deployed import BASE, account, objects_of, send
from lightkube import ApiError, Client
from lightkube.resources.admissionregistration_v1 import (
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from lightkube.resources.batch_v1 import Job
from lightkube.types import PatchType
from watching import wait_for

from posture.kube.annotations import HISTORY, MOVE, PINNED
from posture.manifests.scaled_job import Manifest

NAME = "posture-analyzer-scaledjob-pi1"
POD = "/spec/jobTargetRef/template/spec"
FILE = BASE.parents[1] / "posture-job-pi1.yaml"


@pytest.fixture
def policy(cluster: Cluster) -> Iterator[None]:
    items = objects_of(BASE / "admission-policy.yaml")
    for item in items:
        assert send(cluster, item) == ""
    yield
    for item in items:
        kinds = {"ValidatingAdmissionPolicy": ValidatingAdmissionPolicy}
        cluster.client.delete(kinds.get(item["kind"], ValidatingAdmissionPolicyBinding), item["metadata"]["name"])


@pytest.fixture
def thief(cluster: Cluster, namespace: str, policy: None) -> Client:
    """Who has the balancer's token."""
    manifest = Manifest(FILE, FILE.read_text())
    manifest.set_owner(namespace, "default")
    manifest.place("agx")
    body = manifest.data()
    body["metadata"]["annotations"] = {"autoscaling.keda.sh/paused": "true", PINNED: "true", "theirs": "x"}
    cluster.create(namespace, body)
    client = cluster.client_for(account(cluster, namespace, "posture-scaler"))

    counts = itertools.count(2)
    wait_for(lambda: bool(refusal(client, namespace, ("replace", "/spec/maxReplicaCount", next(counts)))), 30)
    return client


def patch(client: Client, namespace: str, *operations: tuple[str, str, Any]) -> None:
    edits = [{"op": op, "path": path, "value": value} for op, path, value in operations]
    client.patch(ScaledJob, NAME, edits, namespace=namespace, patch_type=PatchType.JSON)


def refusal(client: Client, namespace: str, operation: tuple[str, str, Any]) -> str:
    """Why it is refused; empty if it is not."""
    try:
        patch(client, namespace, operation)
    except ApiError as error:
        return str(error.status.message)
    return ""


def annotation(name: str) -> str:
    return "/metadata/annotations/" + name.replace("~", "~0").replace("/", "~1")


def test_what_the_balancer_does_is_allowed(cluster: Cluster, namespace: str, thief: Client) -> None:
    affinity = copy.deepcopy(cluster.client.get(ScaledJob, NAME, namespace=namespace))
    generation = affinity.metadata.generation
    node = f"{POD}/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"
    term = [{"matchExpressions": [{"key": "gpu-node", "operator": "In", "values": ["nano"]}]}]
    patch(
        thief, namespace, ("test", "/metadata/generation", generation), ("replace", node, term),
        ("add", annotation(MOVE), "{}"), ("add", annotation(HISTORY), "{}"),
    )  # fmt: skip
    patch(thief, namespace, ("remove", annotation(MOVE), None))
    patch(thief, namespace, ("remove", f"{POD}/affinity", None))
    patch(thief, namespace, ("add", f"{POD}/affinity", {"nodeAffinity": {}}))


ROOT_CONTAINER = {
    "name": "root", "image": "evil", "securityContext": {"privileged": True},
}  # fmt: skip
ATTEMPTS: dict[str, tuple[str, str, Any]] = {
    "another image": ("replace", f"{POD}/containers/0/image", "evil"),
    "a command": ("add", f"{POD}/containers/0/command", ["sh"]),
    "privileged": ("add", f"{POD}/containers/0/securityContext/privileged", True),
    "another container": ("add", f"{POD}/containers/-", ROOT_CONTAINER),
    "an init container": ("add", f"{POD}/initContainers/-", ROOT_CONTAINER),
    "no init container": ("remove", f"{POD}/initContainers", None),
    "an ephemeral container": ("add", f"{POD}/ephemeralContainers", [ROOT_CONTAINER]),
    "the host's files": ("add", f"{POD}/volumes/-", {"name": "root", "hostPath": {"path": "/"}}),
    "the host's network": ("add", f"{POD}/hostNetwork", True),
    "the host's processes": ("add", f"{POD}/hostPID", True),
    "an account": ("add", f"{POD}/serviceAccountName", "admin"),
    "an account's token": ("replace", f"{POD}/automountServiceAccountToken", True),
    "a node": ("add", f"{POD}/nodeName", "agx"),
    "a node selector": ("add", f"{POD}/nodeSelector", {"a": "b"}),
    "tolerations": ("replace", f"{POD}/tolerations", [{"operator": "Exists"}]),
    "priority": ("add", f"{POD}/priorityClassName", "system-node-critical"),
    "a Secret's variables": (
        "add", f"{POD}/containers/0/envFrom", [{"secretRef": {"name": "other"}}]),
    "a variable": ("add", f"{POD}/containers/0/env/-", {"name": "LD_PRELOAD", "value": "/evil.so"}),
    "root": ("replace", f"{POD}/securityContext/runAsUser", 0),
    "pod affinity": ("add", f"{POD}/affinity/podAffinity", {}),
    "labels of the pod": ("add", "/spec/jobTargetRef/template/metadata/labels/other", "x"),
    "annotations of the pod": ("add", "/spec/jobTargetRef/template/metadata/annotations", {"a": "b"}),
    "parallelism": ("replace", "/spec/jobTargetRef/parallelism", 100),
    "no back-off limit": ("remove", "/spec/jobTargetRef/backoffLimit", None),
    "a deadline": ("add", "/spec/jobTargetRef/activeDeadlineSeconds", 1),
    "replicas": ("replace", "/spec/maxReplicaCount", 100),
    "another scaler": ("replace", "/spec/triggers/0/metadata/scalerAddress", "evil:1"),
    "another trigger": ("add", "/spec/triggers/-", {"type": "cron", "metadata": {}}),
    "roll-out": ("replace", "/spec/rollout/strategy", "immediate"),
    "fewer fields": ("remove", "/spec/rollout", None),
    "the farm": ("replace", "/metadata/labels/posture-farm~1farm", "other"),
    "no labels": ("remove", "/metadata/labels", None),
    "a finalizer": ("add", "/metadata/finalizers", ["evil/hold"]),
    "an owner": ("add", "/metadata/ownerReferences",
                 [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]),
    "not paused": ("remove", annotation("autoscaling.keda.sh/paused"), None),
    "not pinned": ("remove", annotation(PINNED), None),
    "pinned": ("replace", annotation(PINNED), "false"),
    "somebody's annotation": ("replace", annotation("theirs"), "y"),
    "a new annotation": ("add", annotation("autoscaling.keda.sh/paused-replicas"), "5"),
    "no annotations": ("remove", "/metadata/annotations", None),
}  # fmt: skip


def test_everything_else_is_refused_part_by_part(cluster: Cluster, namespace: str, thief: Client) -> None:
    before = cluster.client.get(ScaledJob, NAME, namespace=namespace).to_dict()
    answers = {name: refusal(thief, namespace, operation) for name, operation in ATTEMPTS.items()}
    assert {name: said for name, said in answers.items() if "ValidatingAdmissionPolicy" not in said} == {}
    after = cluster.client.get(ScaledJob, NAME, namespace=namespace).to_dict()
    for changing in ("resourceVersion", "managedFields"):
        before["metadata"].pop(changing, None)
        after["metadata"].pop(changing, None)
    assert (before["metadata"], before["spec"]) == (after["metadata"], after["spec"])


def test_jobs_of_others_are_not_deleted(cluster: Cluster, namespace: str, thief: Client) -> None:
    def job(name: str, **labels: str) -> None:
        container = {"name": "one", "image": "one"}
        template = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}}
        metadata = {"name": name, "labels": labels}
        spec = {"suspend": True, "template": template}
        cluster.create(namespace, {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})

    job("theirs")
    job("ours", **{"app.kubernetes.io/part-of": "posture-farm", "posture-farm/stream": "pi1"})
    with pytest.raises(ApiError, match="Jobs and pods of streams alone"):
        thief.delete(Job, "theirs", namespace=namespace)
    thief.delete(Job, "ours", namespace=namespace)
    with pytest.raises(ApiError, match="forbidden"):
        list(thief.list(Job, namespace="kube-system"))


def test_an_operator_is_not_held_back(cluster: Cluster, namespace: str, thief: Client) -> None:
    operator = cluster.client_for(account(cluster, namespace, "posture-operator"))
    patch(operator, namespace, ("replace", "/spec/pollingInterval", 30))
    refused: Callable[[], None] = lambda: patch(thief, namespace, ("replace", "/spec/pollingInterval", 40))  # noqa: E731
    with pytest.raises(ApiError, match="affinity alone"):
        refused()
