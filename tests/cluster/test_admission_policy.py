"""A stolen token of scaler or balancer, on the real API server: what it may do, and what else it tries."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator

import pytest
from control_plane import Cluster, ScaledJob
from deployed import BASE, account, objects_of, send
from lightkube import ApiError, Client
from lightkube.resources.admissionregistration_v1 import (
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from lightkube.resources.batch_v1 import Job
from stolen_token import ATTEMPTS, NAME, POD, annotation, patch, refusal
from watching import wait_for

from posture.kube.annotations import HISTORY, MOVE, MOVES, PINNED, STATE
from posture.manifests.scaled_job import Manifest

FILE = BASE.parents[1] / "posture-job-pi1.yaml"


@pytest.fixture
def policy(cluster: Cluster) -> Iterator[None]:
    items = objects_of(BASE / "admission-policy.yaml")
    # the one whose being in force is waited for comes last
    for item in reversed(items):
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
    # KEDA adds its finalizer by and by
    cluster.until(ScaledJob, namespace, lambda made: all(one.metadata.finalizers for one in made))
    client = cluster.client_for(account(cluster, namespace, "posture-scaler"))

    counts = itertools.count(2)
    wait_for(lambda: bool(refusal(client, namespace, ("replace", "/spec/maxReplicaCount", next(counts)))))
    return client


def test_what_the_balancer_does_is_allowed(cluster: Cluster, namespace: str, thief: Client) -> None:
    affinity = copy.deepcopy(cluster.client.get(ScaledJob, NAME, namespace=namespace))
    generation = affinity.metadata.generation
    node = f"{POD}/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"
    term = [{"matchExpressions": [{"key": "gpu-node", "operator": "In", "values": ["nano"]}]}]
    patch(
        thief, namespace, ("test", "/metadata/generation", generation), ("replace", node, term),
        *(("add", annotation(name), "{}") for name in (MOVE, MOVES, HISTORY, STATE)),
    )  # fmt: skip
    patch(thief, namespace, ("remove", annotation(MOVE), None))
    patch(thief, namespace, ("remove", f"{POD}/affinity", None))
    patch(thief, namespace, ("add", f"{POD}/affinity", {"nodeAffinity": {}}))


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
