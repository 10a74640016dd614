"""A farm whose pods have the GPU, by one setting: admitted, placed by the balancer's account, and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import Cluster, ScaledJob
from deployed import BASE, account, objects_of, send
from life import Checkout, everything
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.admissionregistration_v1 import (
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod
from lightkube.resources.node_v1 import RuntimeClass
from lightkube.types import CascadeType
from scaled_jobs import is_ready, labels_of_jobs, name_of
from stolen_token import POD, patch, refusal
from watching import wait_for

UP = ("build_and_push.py", "--skip-build", "--no-wait")


@pytest.fixture
def runtime_class(cluster: Cluster) -> Iterator[None]:
    """What K3s makes where it finds NVIDIA's container runtime."""
    cluster.client.create(RuntimeClass(handler="nvidia", metadata=ObjectMeta(name="nvidia")))
    yield
    cluster.client.delete(RuntimeClass, "nvidia")


@pytest.fixture
def policy(cluster: Cluster) -> Iterator[None]:
    items = objects_of(BASE / "admission-policy.yaml")
    assert [send(cluster, item) for item in items] == [""] * len(items)
    yield
    kinds = {kind.__name__: kind for kind in (ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding)}
    for item in items:
        cluster.client.delete(kinds[item["kind"]], item["metadata"]["name"])


def with_gpu(checkout: Checkout, gpu: str = "nvidia") -> None:
    checkout.settings["kubernetes"]["gpu"] = gpu
    checkout.write_settings()


def pod_of(cluster: Cluster, namespace: str) -> Any:
    """The pod that stream pi1 should have."""
    return cluster.client.get(ScaledJob, name_of("pi1"), namespace=namespace).spec["jobTargetRef"]["template"][
        "spec"
    ]


def test_without_nvidias_runtime_class_that_is_found_before_anything_is_changed(
    checkout: Checkout, cluster: Cluster
) -> None:
    with_gpu(checkout)
    before = everything(cluster)
    said = checkout.run(*UP, status=2)
    assert 'RuntimeClass "nvidia" not found' in said
    assert "mend: kubectl get runtimeclass nvidia" in said
    assert everything(cluster) == before


def test_pods_with_the_gpu_are_admitted_moved_and_lose_it_again_where_they_are(
    checkout: Checkout, cluster: Cluster, namespace: str, runtime_class: None, policy: None
) -> None:
    with_gpu(checkout)
    checkout.run(*UP)
    (pod,) = cluster.until(
        Pod, namespace, lambda pods: [is_ready(pod) for pod in pods] == [True], labels_of_jobs("pi1")
    )
    variables = {entry.name: entry.value for entry in pod.spec.containers[0].env}
    assert pod.spec.runtimeClassName == "nvidia"
    assert pod.spec.securityContext.supplementalGroups == [44]
    assert variables["NVIDIA_VISIBLE_DEVICES"] == variables["NVIDIA_DRIVER_CAPABILITIES"] == "all"
    assert variables["POSTURE_ANALYZER_DELEGATE"] == "gpu"

    balancer = cluster.client_for(account(cluster, namespace, "posture-scaler"))
    wait_for(lambda: bool(refusal(balancer, namespace, ("remove", f"{POD}/runtimeClassName", None))))
    for taken in ("runtimeClassName", "securityContext/supplementalGroups"):
        assert "affinity alone" in refusal(balancer, namespace, ("remove", f"{POD}/{taken}", None))
    elsewhere = next(name for name in checkout.machines if name != pod.spec.nodeName)
    terms = f"{POD}/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms"
    there = [{"matchExpressions": [{"key": "gpu-node", "operator": "In", "values": [elsewhere]}]}]
    patch(balancer, namespace, ("replace", terms, there))
    job = pod.metadata.labels["batch.kubernetes.io/job-name"]
    cluster.client.delete(Job, job, namespace=namespace, cascade=CascadeType.FOREGROUND)
    cluster.until(
        Pod, namespace, lambda pods: [one.spec.nodeName for one in pods if is_ready(one)] == [elsewhere],
        labels_of_jobs("pi1"),
    )  # fmt: skip

    with_gpu(checkout, "none")
    checkout.run(*UP)
    left = pod_of(cluster, namespace)
    assert "runtimeClassName" not in left
    assert "supplementalGroups" not in left["securityContext"]
    names = {entry["name"] for entry in left["containers"][0]["env"]}
    assert variables.keys() - names == {
        "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "POSTURE_ANALYZER_DELEGATE",
    }  # fmt: skip
    assert elsewhere in str(left["affinity"]), "an upgrade leaves a stream where it is"
