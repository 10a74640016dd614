"""build_and_push.py where the cluster admits no pods: found before the start, and shown while it waits."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
from control_plane import Cluster, are_counted
from deployed import send
from life import Checkout, everything
from lightkube.codecs import from_dict
from lightkube.resources.admissionregistration_v1 import ValidatingWebhookConfiguration
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Namespace, ResourceQuota
from lightkube.types import PatchType
from watching import wait_for

UP = ("build_and_push.py", "--skip-build")


def quota(pods: int, *scopes: str) -> dict[str, Any]:
    spec = {"hard": {"pods": str(pods)}, **({"scopes": list(scopes)} if scopes else {})}
    return {"kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": spec}


def test_a_quota_that_is_too_small_for_all_streams_together_is_found_before_anything_is_changed(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    cluster.client.create(from_dict({"apiVersion": "v1", **quota(1)}), namespace=namespace)
    said = checkout.run(*UP, status=2)
    assert "error: quota small has too little pods for 2 more streams: they take 2, and 0 of 1 are used" in said
    assert f"mend: kubectl -n {namespace} edit quota small" in said


LIMITS: dict[str, Any] = {
    "kind": "LimitRange",
    "metadata": {"name": "tiny"},
    "spec": {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]},
}


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        pytest.param(quota(0), "exceeded quota: small", id="quota"),
        pytest.param(LIMITS, "maximum memory usage per Container is 1Mi", id="LimitRange"),
        pytest.param("restricted", 'volume type "hostPath"', id="PodSecurity"),
    ],
)
def test_what_admits_no_pod_is_found_before_anything_is_changed(
    checkout: Checkout, cluster: Cluster, namespace: str, obstacle: Any, words: str
) -> None:
    if isinstance(obstacle, str):
        labels = {"pod-security.kubernetes.io/enforce": obstacle}
        cluster.client.patch(Namespace, namespace, {"metadata": {"labels": labels}})
        checkout.settings["kubernetes"]["pictures_host_path"] = "/var/lib/posture-farm"
        checkout.write_settings()
    else:
        cluster.client.create(from_dict({"apiVersion": "v1", **obstacle}), namespace=namespace)
        cluster.until(ResourceQuota, namespace, are_counted)
    before = everything(cluster)
    said = checkout.run(*UP, status=2)
    assert "error: the cluster admits no pod of stream pi1: create pods: " in said
    assert words in said
    assert "lacks verb" not in said
    assert everything(cluster) == before


def test_a_webhook_that_is_down_is_found_before_anything_is_changed(
    checkout: Checkout, cluster: Cluster, namespace: str, request: pytest.FixtureRequest
) -> None:
    hook = {
        "name": "pods.example.com",
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
    }
    metadata = {"name": f"down-{namespace}"}
    request.addfinalizer(partial(cluster.client.delete, ValidatingWebhookConfiguration, metadata["name"]))
    cluster.client.create(ValidatingWebhookConfiguration.from_dict({"metadata": metadata, "webhooks": [hook]}))
    # the API server takes it up by itself
    wait_for(lambda: 'failed calling webhook "pods.example.com"' in refusal(cluster, namespace))
    said = checkout.run(*UP, status=2)
    assert "error: the cluster admits no pod of stream pi1: " in said
    assert 'failed calling webhook "pods.example.com"' in said


def refusal(cluster: Cluster, namespace: str) -> str:
    """What the API server says to a pod that is tried."""
    container = {"name": "a", "image": "a"}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": namespace}}
    return send(cluster, {**body, "spec": {"containers": [container]}}, dry_run=True)


def test_the_waiting_line_shows_within_seconds_why_a_stream_gets_no_pod(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    # each single pod is admitted; together they are too many, which preflight can't know of a quota with a scope
    cluster.client.create(from_dict({"apiVersion": "v1", **quota(1, "NotTerminating")}), namespace=namespace)
    began = time.monotonic()
    running = checkout.start(*UP)
    running.until_it_says("FailedCreate: Error creating: pods")
    assert "exceeded quota: small" in running.said
    print(f"told after {time.monotonic() - began:.1f} s, of which the start takes most")
    running.interrupt()
    assert running.wait() != 0


def test_stop_names_the_finalizer_that_holds_a_job(checkout: Checkout, cluster: Cluster, namespace: str) -> None:
    checkout.settings["kubernetes"]["stop_timeout_s"] = 10
    checkout.write_settings()
    checkout.run(*UP, "--no-wait")
    jobs = cluster.until(Job, namespace, lambda found: len(found) == 2)
    name = jobs[0].metadata.name
    held = {"metadata": {"finalizers": [*(jobs[0].metadata.finalizers or []), "example.com/hold"]}}
    cluster.client.patch(Job, name, held, namespace=namespace)
    said = checkout.run("stop.py", status=1)
    assert f"job {name} is held by the finalizer example.com/hold" in said
    letting_go = [{"op": "remove", "path": "/metadata/finalizers"}]
    cluster.client.patch(Job, name, letting_go, namespace=namespace, patch_type=PatchType.JSON)
    checkout.settings["kubernetes"]["stop_timeout_s"] = 60
    checkout.write_settings()
    checkout.run("stop.py")


def test_a_stream_whose_job_somebody_has_suspended_is_not_waited_for_in_silence(
    checkout: Checkout, cluster: Cluster, namespace: str
) -> None:
    running = checkout.start(*UP, "--no-wait")
    running.close_stdin()
    assert running.wait() == 0, running.said
    jobs = cluster.until(Job, namespace, lambda found: len(found) == 2)
    cluster.client.patch(Job, jobs[0].metadata.name, {"spec": {"suspend": True}}, namespace=namespace)
    again = checkout.start(*UP)
    again.until_it_says(f"JobSuspended: Job {jobs[0].metadata.name} is suspended")
    again.interrupt()
    again.wait()
