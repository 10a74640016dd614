"""What must be right before a cluster is made a farm. Nothing is changed here; each finding says what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from posture.kube import access, errors, kinds, labels
from posture.kube.client import KubeClient, Object
from posture.kube.ownership import DEFAULT_FARM, ForeignError, check
from posture.lifecycle.preflight.cluster import MACHINES, check_platform
from posture.lifecycle.preflight.findings import Finding
from posture.lifecycle.scaler_in_cluster import CONFIG_MAP
from posture.lifecycle.setup import addresses, nodes
from posture.lifecycle.setup.addresses import is_ours
from posture.lifecycle.setup.environment_file import EnvironmentFile
from posture.lifecycle.setup.survey import (
    ALL_DEPLOYMENTS,
    ALL_SERVICES,
    BROKER,
    CAMERAS_PORT,
    DATABASE,
    KEDA_NAMESPACE,
    P2P,
    PICTURES,
    SCALER,
    STORAGE_CLASS,
    TRIGGER_AUTHENTICATION,
    Survey,
)
from posture.natural_order import some_of
from posture.settings.gpu_queries import GPU_QUERIES_VARIABLE
from posture.settings.table import Settings

APPLY = "kubectl apply -k deploy/stack"
KEDA_OPERATOR = "keda-operator"
RIGHTS = (
    *((kinds.NODE, verb) for verb in ("list", "patch")),
    *((kind, verb) for kind in (kinds.SECRET, CONFIG_MAP) for verb in ("get", "list", "create", "patch", "delete")),
    *((kinds.STATEFUL_SET, verb) for verb in ("list", "get", "patch")),
    *((TRIGGER_AUTHENTICATION, verb) for verb in ("list", "create", "patch")),
    *((kind, "list") for kind in (ALL_DEPLOYMENTS, ALL_SERVICES, STORAGE_CLASS)),
)


def check_rights(cluster: KubeClient) -> Iterator[Finding]:
    """We may do all of it: to learn that half-way would leave half a farm.

    Raises:
        KubeError: the API server does not answer.
    """
    for lacking in access.missing(cluster, RIGHTS):
        yield Finding(
            lacking, "an administrator's kubeconfig, such as K3s' /etc/rancher/k3s/k3s.yaml on its server"
        )


def check_farm(settings: Settings, streams: Sequence[str]) -> Iterator[Finding]:
    """The settings are of a farm that the stack is made for."""
    farm = settings.kubernetes.farm
    if farm != DEFAULT_FARM:
        yield Finding(
            f"kubernetes.farm: {farm}: the stack's objects are the farm {DEFAULT_FARM}'s",
            "another kubernetes.namespace for a second stack, or by hand: docs/setup.md",
        )
    if not streams:
        yield Finding("the farm has no stream", "in cluster.yaml, below streams: a line - NAME for each camera")
    if GPU_QUERIES_VARIABLE in os.environ:
        yield Finding(
            f"the variable {GPU_QUERIES_VARIABLE} replaces cluster.yaml's GPU_QUERIES",
            f"unset {GPU_QUERIES_VARIABLE}",
        )


def check_stack(settings: Settings, survey: Survey) -> Iterator[Finding]:
    """The stack has been applied, into a namespace of ours, beside nothing of its kind."""
    namespace = settings.kubernetes.namespace
    if survey.namespace is None:
        yield Finding(f"namespace {namespace} does not exist: the stack has not been applied", APPLY)
        return
    if not is_ours(survey.namespace):
        yield Finding(
            f"namespace {namespace} is there, and is none of Posture Farm's: it lacks the label "
            f"{labels.PART_OF}={labels.OURS}",
            "in cluster.yaml another kubernetes.namespace (and namespace in the stack's kustomization), or, if "
            f"it is for the farm: kubectl label namespace {namespace} {labels.PART_OF}={labels.OURS}",
        )
        return
    if (namespace, SCALER) not in survey.deployments:
        yield Finding(f"namespace {namespace} has no Deployment {SCALER}: the stack has not been applied", APPLY)
        return
    yield from _check_neighbours(namespace, survey)
    yield from _check_keda(survey)
    yield from _check_prometheus(settings, survey)
    yield from _check_node_port(namespace, survey)
    yield from _check_storage(survey)


def _check_neighbours(namespace: str, survey: Survey) -> Iterator[Finding]:
    """Nobody else's programs run in the namespace: its rules would be theirs."""
    workloads = [(place, item) for place, item in survey.deployments.items() if place[0] == namespace]
    workloads += [((namespace, name), item) for name, item in survey.stateful_sets.items()]
    strangers = sorted(place[1] for place, item in workloads if not is_ours(item))
    if strangers:
        yield Finding(
            f"namespace {namespace} also has {some_of(strangers)}, which is not of the farm; the farm's network "
            "policies and its PodSecurity level hold for it, too",
            "in cluster.yaml another kubernetes.namespace, or move it to one of its own",
            warning=True,
        )


def _check_keda(survey: Survey) -> Iterator[Finding]:
    """One KEDA serves the cluster: two would both make a stream's Jobs."""
    operators = {
        namespace: item
        for (namespace, name), item in sorted(survey.deployments.items())
        if name == KEDA_OPERATOR
        or (item["metadata"].get("labels") or {}).get("app.kubernetes.io/name") == KEDA_OPERATOR
    }
    own = [place for place, item in operators.items() if place != KEDA_NAMESPACE or not _is_of_the_stack(item)]
    # K3s installs the stack's by and by: its namespace is there first
    stacks = survey.keda_namespace is not None and is_ours(survey.keda_namespace)
    if len(operators) > 1 or (own and stacks):
        yield Finding(
            f"KEDA runs in {some_of(own or list(operators))} already, beside the stack's: each would make the "
            "streams' Jobs",
            "kubectl -n kube-system delete helmchart keda; kubectl label namespace keda "
            f"{labels.PART_OF}-; kubectl apply -k deploy/overlays/own-keda",
        )
    elif own and own != [KEDA_NAMESPACE]:
        yield Finding(
            f"KEDA runs in namespace {own[0]} and not in {KEDA_NAMESPACE}, from where alone the scaler is reached",
            "kubectl apply -k deploy/overlays/own-keda   (with that namespace in its network policy)",
            warning=True,
        )


def _is_of_the_stack(operator: Object) -> bool:
    """Return whether a KEDA can be the stack's: Helm's, or of the overlay for any Kubernetes."""
    metadata = operator["metadata"]
    by_helm = "meta.helm.sh/release-name" in (metadata.get("annotations") or {})
    return by_helm or "posture-farm/part" in (metadata.get("labels") or {})


def _check_prometheus(settings: Settings, survey: Survey) -> Iterator[Finding]:
    found = addresses.prometheus_services(survey)
    ours = [place for place in found if is_ours(survey.services[place])]
    others = [f"{name} in {namespace}" for namespace, name in found if (namespace, name) not in ours]
    default = settings.prometheus == type(settings.prometheus)()
    if ours and others:
        yield Finding(
            f"the cluster has a Prometheus of its own ({some_of(others)}) beside the stack's",
            "kubectl apply -k deploy/overlays/own-prometheus   (or kube-prometheus-stack)",
            warning=True,
        )
    elif len(others) > 1 and default:
        yield Finding(
            f"which Prometheus is to be asked: {some_of(others)}?",
            "in cluster.yaml, prometheus.url: kubernetes://NAMESPACE/SERVICE:PORT",
        )
    elif not found and default:
        yield Finding(
            "the cluster has no Prometheus",
            f"{APPLY}   (or in cluster.yaml the prometheus.url of one elsewhere)",
        )


def _check_node_port(namespace: str, survey: Survey) -> Iterator[Finding]:
    by_another = False
    for (where, name), item in survey.services.items():
        taken = any(port.get("nodePort") == CAMERAS_PORT for port in item["spec"].get("ports") or [])
        if taken and (where, name) != (namespace, BROKER):
            by_another = True
            yield Finding(
                f"port {CAMERAS_PORT} of the nodes, for the cameras, is service {name}'s in {where}",
                f"kubectl -n {where} edit service {name}   (another nodePort), then {APPLY}; "
                "or another nodePort in deploy/stack/broker",
                warning=(namespace, BROKER) in survey.services,
            )
    if BROKER in survey.stateful_sets and (namespace, BROKER) not in survey.services and not by_another:
        yield Finding(f"service {BROKER} does not exist, by which the broker is reached", APPLY)


def _check_storage(survey: Survey) -> Iterator[Finding]:
    """Volumes that name no class can be had."""
    waiting = sorted(
        name
        for name, item in survey.stateful_sets.items()
        if any(not one["spec"].get("storageClassName") for one in item["spec"].get("volumeClaimTemplates") or [])
    )
    if not survey.default_storage and (waiting or not survey.stateful_sets):
        yield Finding(
            f"the cluster has no default StorageClass, so {some_of(waiting or [BROKER, DATABASE])} gets no volume",
            'kubectl patch storageclass NAME -p \'{"metadata": {"annotations": '
            '{"storageclass.kubernetes.io/is-default-class": "true"}}}\'   (K3s brings local-path unless it was '
            "started with --disable=local-storage)",
        )


def check_parts(settings: Settings, survey: Survey, environment: EnvironmentFile) -> Iterator[Finding]:
    """Each part that the stack was applied without is named in ``.env``."""
    if survey.namespace is None or (settings.kubernetes.namespace, SCALER) not in survey.deployments:
        return
    for part, variable, overlay, such in (
        (BROKER, "POSTURE_MQTT_URL", "own-broker", "mqtts://broker.example:8883"),
        (DATABASE, "POSTURE_DATABASE_URL", "own-database", "postgresql://user:password@host/database"),
    ):
        there, given = part in survey.stateful_sets, variable in environment.values
        if not there and not given:
            yield Finding(
                f"the stack has no {part}, and {environment.path} names none of your own",
                f"in {environment.path}: {variable}={such}   (or {APPLY})",
            )
        elif there and given:
            yield Finding(
                f"{environment.path} has a {variable}, which is used instead of the stack's {part}",
                f"kubectl apply -k deploy/overlays/{overlay}   (leaves it out), or take the variable out",
                warning=True,
            )
    if environment.others_may_read:
        yield Finding(f"{environment.path} can be read by others", "it is given mode 0600", warning=True)


def check_nodes(settings: Settings, survey: Survey) -> Iterator[Finding]:
    """There are nodes that analyzers can run on, each under a name of its own, and images are built for them."""
    machines = nodes.chosen(survey.machines, settings.kubernetes.master)
    for one in survey.machines:
        if not one.runs_analyzers:
            yield Finding(
                f"node {one.node.host} is linux/{one.node.labels.get('kubernetes.io/arch')}: analyzers run on "
                f"linux/{' and linux/'.join(MACHINES)}, so it is left out",
                "a 64-bit system there   (it can still be a camera)",
                warning=True,
            )
    if not machines:
        yield Finding("the cluster has no node that analyzers can run on", "kubectl get nodes -o wide")
        return
    ready = [one for one in machines if one.node.ready and not one.node.cordoned]
    down = [one.node.host for one in machines if one not in ready]
    if not ready:
        yield Finding(
            f"none of the farm's nodes is Ready and schedulable ({some_of(down)})",
            "kubectl get nodes; kubectl uncordon NODE",
        )
    elif down:
        yield Finding(f"{some_of(down)}: not Ready, or cordoned", "kubectl describe node NAME", warning=True)
    if len(ready) == 1:
        yield Finding(
            f"{ready[0].node.host} is the farm's only node: its streams have no other",
            "join another board to the cluster, then python3 setup_farm.py again",
            warning=True,
        )
    yield from _check_names(machines)
    for one in machines:
        for finding in check_platform(settings, one.node):
            mend = f"in cluster.yaml, under images: platforms: {settings.images.platforms},{one.platform}"
            yield Finding(finding.what, mend)


def _check_names(machines: Sequence[nodes.Machine]) -> Iterator[Finding]:
    hosts: dict[str, str] = {}
    for one in machines:
        if one.name in hosts:
            yield Finding(
                f"nodes {hosts[one.name]} and {one.node.host} both have the label gpu-node={one.name}",
                f"kubectl label node {one.node.host} gpu-node={one.node.host} --overwrite",
            )
        hosts[one.name] = one.node.host
        if len(one.name) > 63:
            yield Finding(
                f"node {one.name}: its name is longer than the 63 characters that a label may have",
                f"kubectl label node {one.node.host} gpu-node=SHORTER",
            )


def check_registry(settings: Settings, survey: Survey) -> Iterator[Finding]:
    """Images have somewhere to go."""
    if settings.images.registry or addresses.registry(survey, settings.kubernetes.namespace):
        return
    mirrors = any(one.node.labels.get(P2P) == "true" for one in survey.machines)
    also = "; K3s' embedded one shares images among nodes, and takes no pushes" if mirrors else ""
    yield Finding(
        f"no registry was found: images.registry is empty, and the stack has none{also}",
        "kubectl apply -k deploy/stack/registry, then this again   (or images.registry in cluster.yaml)",
        warning=True,
    )


def check_objects(survey: Survey, wanted: Sequence[Object], farm: str) -> Iterator[Finding]:
    """No object that is to be made is somebody else's."""
    for item in wanted:
        metadata = item["metadata"]
        live = survey.held.get((item["kind"], metadata["namespace"], metadata["name"]))
        kind = kinds.SECRET if item["kind"] == kinds.SECRET.name else CONFIG_MAP
        if live is None:
            continue
        try:
            check(kind, live, farm)
        except ForeignError as error:
            yield Finding(
                str(error),
                f"put its values into .env, then kubectl -n {metadata['namespace']} delete {kind.name.lower()} "
                f"{metadata['name']}   (setup_farm.py makes it again)",
            )


def no_cluster(error: Exception) -> Finding:
    """Return the finding of a cluster that can't be looked at."""
    refused = isinstance(error, errors.RefusedError)
    mend = "an administrator's kubeconfig" if refused else "kubectl get nodes   (until this works)"
    return Finding(f"the cluster can't be looked at: {error}", mend)


def parts(survey: Survey) -> list[str]:
    """Return the stack's parts that are there, for people."""
    return [name for name in (BROKER, DATABASE, PICTURES) if name in survey.stateful_sets]
