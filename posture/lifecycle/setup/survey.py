"""What a cluster says of itself, read once: the stack's parts, nodes, storage, and what was set up before."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from posture.kube import errors, kinds, labels
from posture.kube.client import KubeClient, Object
from posture.kube.kinds import Kind
from posture.kube.objects import name_of
from posture.lifecycle.scaler_in_cluster import CONFIG_MAP, MADE
from posture.lifecycle.setup.nodes import Machine

BY_SETUP = "setup"
"""Value of the annotation ``posture-farm/made``: what we have made and may take away."""
BROKER, DATABASE, PICTURES = "posture-mqtt", "posture-postgres", "posture-pictures"
SCALER, DASHBOARD = "posture-scaler", "posture-dashboard"
REGISTRY = "posture-registry"
KEDA_NAMESPACE = "keda"
CAMERAS_PORT = 30883
TRIGGER_AUTHENTICATION = Kind("TriggerAuthentication", "keda.sh/v1alpha1", "triggerauthentications")
STORAGE_CLASS = Kind("StorageClass", "storage.k8s.io/v1", "storageclasses", namespaced=False)
ALL_SERVICES = Kind("Service", "v1", "services", namespaced=False)
ALL_DEPLOYMENTS = Kind("Deployment", "apps/v1", "deployments", namespaced=False)
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
P2P = "p2p.k3s.cattle.io/enabled"
"""K3s' label of nodes that share images among each other (--embedded-registry)."""


@dataclass
class Survey:
    """What was found.

    Attributes:
        namespace: the farm's; None if it is not there.
        machines: all nodes.
        stateful_sets: the namespace's, by name.
        deployments: those of all namespaces, by namespace and name.
        services: likewise.
        default_storage: there is a default StorageClass.
        held: the namespace's Secrets and ConfigMaps, by kind and name.
        scaled_jobs: the farm's.
        keda_namespace: the namespace ``keda``; None if it is not there.
        authentications: the namespace's TriggerAuthentications, by name; None while KEDA's kinds are not there.
    """

    namespace: Object | None = None
    machines: list[Machine] = field(default_factory=list)
    stateful_sets: dict[str, Object] = field(default_factory=dict)
    deployments: dict[tuple[str, str], Object] = field(default_factory=dict)
    services: dict[tuple[str, str], Object] = field(default_factory=dict)
    default_storage: bool = False
    held: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    scaled_jobs: list[Object] = field(default_factory=list)
    keda_namespace: Object | None = None
    authentications: dict[str, Object] | None = None

    def data(self, name: str, namespace: str) -> dict[str, str]:
        """Return what a Secret holds; nothing where there is none."""
        return decoded(self.held.get(("Secret", namespace, name)))

    def own_deployment(self, namespace: str, name: str) -> Object | None:
        """Return a Deployment of the stack."""
        return self.deployments.get((namespace, name))


def look(cluster: KubeClient, farm: str) -> Survey:
    """Read the cluster.

    Raises:
        KubeError: the API server did not answer, or refuses.
    """
    here = cluster.namespace
    survey = Survey(machines=[Machine.read(item) for item in cluster.list(kinds.NODE)])
    survey.namespace = _namespace(cluster, here)
    survey.keda_namespace = _namespace(cluster, KEDA_NAMESPACE)
    survey.deployments = _by_place(cluster.list(ALL_DEPLOYMENTS))
    survey.services = _by_place(cluster.list(ALL_SERVICES))
    survey.stateful_sets = {name_of(item): item for item in cluster.list(kinds.STATEFUL_SET)}
    survey.default_storage = any(
        (item["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
        for item in cluster.list(STORAGE_CLASS)
    )
    for kind in (kinds.SECRET, CONFIG_MAP):
        for namespace in (here, *([KEDA_NAMESPACE] if survey.keda_namespace else [])):
            selected = None if namespace == here else labels.of_farm(farm)
            for item in cluster.list(kind, selected, namespace=namespace):
                survey.held[kind.name, namespace, name_of(item)] = item
    try:
        survey.scaled_jobs = cluster.list(kinds.SCALED_JOB, labels.of_farm(farm))
        survey.authentications = {name_of(item): item for item in cluster.list(TRIGGER_AUTHENTICATION)}
    except errors.NotFoundError:
        survey.scaled_jobs = []
    return survey


def decoded(secret: Object | None) -> dict[str, str]:
    """Return a Secret's data as text."""
    data = (secret or {}).get("data") or {}
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}


def is_made_by_setup(item: Mapping[str, Any], farm: str) -> bool:
    """Return whether we have made an object, for this farm."""
    metadata = item["metadata"]
    marked = (metadata.get("annotations") or {}).get(MADE) == BY_SETUP
    return marked and (metadata.get("labels") or {}).get(labels.FARM) == farm


def _namespace(cluster: KubeClient, name: str) -> Object | None:
    try:
        return cluster.get(kinds.NAMESPACE, name)
    except errors.NotFoundError:
        return None


def _by_place(items: list[Object]) -> dict[tuple[str, str], Object]:
    return {(item["metadata"]["namespace"], name_of(item)): item for item in items}
