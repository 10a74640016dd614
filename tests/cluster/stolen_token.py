"""What somebody tries who has the token of scaler or balancer: to change a ScaledJob in every way there is."""

from __future__ import annotations

from typing import Any

from control_plane import ScaledJob
from lightkube import ApiError, Client
from lightkube.types import PatchType

from posture.kube.annotations import CLEARED, ENVIRONMENT, PINNED

NAME = "posture-analyzer-scaledjob-pi1"
POD = "/spec/jobTargetRef/template/spec"


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


ROOT_CONTAINER = {
    "name": "root", "image": "evil", "securityContext": {"privileged": True},
}  # fmt: skip
ATTEMPTS: dict[str, tuple[str, str, Any]] = {
    "another image": ("replace", f"{POD}/containers/0/image", "evil"),
    "a command": ("add", f"{POD}/containers/0/command", ["sh"]),
    "privileged": ("add", f"{POD}/containers/0/securityContext/privileged", True),
    "another container": ("add", f"{POD}/containers/-", ROOT_CONTAINER),
    "an init container": ("add", f"{POD}/initContainers", [ROOT_CONTAINER]),
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
    "what the patch has written": ("add", annotation(ENVIRONMENT), "x"),
    "cleared topics": ("add", annotation(CLEARED), "true"),
    "a new annotation": ("add", annotation("autoscaling.keda.sh/paused-replicas"), "5"),
    "no annotations": ("remove", "/metadata/annotations", None),
}  # fmt: skip
