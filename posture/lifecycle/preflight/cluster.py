"""The cluster before a farm goes up: namespace, KEDA, rights, nodes, and the usage of the nodes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from posture.errors import UserError
from posture.kube import access, errors, kinds, labels, objects
from posture.kube.affinity import NODE_LABEL
from posture.kube.client import KubeClient
from posture.kube.kinds import Kind
from posture.kube.objects import Node
from posture.kube.ownership import ForeignError
from posture.kube.resources import fitting, free_of, requests_of
from posture.lifecycle import page_and_exporter
from posture.lifecycle.preflight.findings import SETUP, Finding, Intent, Survey
from posture.lifecycle.preflight.pods import check_needs
from posture.natural_order import some_of
from posture.settings.table import Settings
from posture.usage import ratios
from posture.usage.prometheus import Prometheus
from posture.usage.readings import UsageUnknownError
from posture.usage.service_address import command

OLDEST_KEDA = (2, 20)
"""What the farm is tested with."""

MACHINES = ("amd64", "arm64")
"""Kubernetes' names of what analyzers can run on."""

CRD = Kind("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)

INSTALL_KEDA = "helm install keda kedacore/keda --namespace keda --create-namespace --version 2.20.2"


def no_cluster(why: Exception) -> list[Finding]:
    """Return the findings of a cluster that can't be reached."""
    return [
        Finding(f"Kubernetes can't be reached: {why}", "kubectl get nodes   (until this works)"),
        Finding("so KEDA, nodes, Secrets and rights were not checked", "see above", warning=True),
    ]


def check_cluster(intent: Intent, cluster: KubeClient, survey: Survey) -> list[Finding]:
    """The API server, our rights, KEDA, nodes, Secrets; fills the survey."""
    settings = intent.settings
    try:
        nodes = cluster.list(kinds.NODE)
    except (errors.KubeError, UserError) as error:
        return no_cluster(error)
    survey.reached = True
    read = [objects.Node.read(item) for item in nodes]
    survey.nodes = [node for node in read if node.name or node.host == settings.kubernetes.master]
    findings: list[Finding] = []
    for look in (_check_namespace, _check_keda, _check_removed, _check_rights, check_needs, _see_programs):
        try:
            findings += look(intent, cluster, survey)
        except errors.KubeError as error:
            findings.append(Finding(str(error), "kubectl auth can-i --list"))
    findings += _check_nodes(settings, read)
    return findings


def _check_namespace(intent: Intent, cluster: KubeClient, survey: Survey) -> Iterator[Finding]:
    del survey
    try:
        cluster.get(kinds.NAMESPACE, intent.settings.kubernetes.namespace)
    except errors.NotFoundError:
        name = intent.settings.kubernetes.namespace
        yield Finding(f"namespace {name} does not exist", f"kubectl create namespace {name}")


def _check_keda(intent: Intent, cluster: KubeClient, survey: Survey) -> Iterator[Finding]:
    try:
        found = cluster.list(kinds.SCALED_JOB, labels.of_farm(intent.settings.kubernetes.farm))
    except errors.NotFoundError:
        yield Finding("KEDA is not installed: there is no scaledjobs.keda.sh", INSTALL_KEDA)
        return
    for item in found:
        survey.scaled_jobs[objects.ScaledJob.read(item).stream] = item
        if "deletionTimestamp" in item["metadata"]:
            name = item["metadata"]["name"]
            mend = f"kubectl -n {cluster.namespace} wait --for=delete scaledjob/{name}   (KEDA's operator must run)"
            yield Finding(f"scaledjob {name} is being deleted", mend)
    try:
        crd = cluster.get(CRD, "scaledjobs.keda.sh")
    except errors.RefusedError:
        crd = {"metadata": {}}
    version = str((crd["metadata"].get("labels") or {}).get("app.kubernetes.io/version", ""))
    numbers = tuple(int(part) for part in version.lstrip("v").split(".")[:2] if part.isdecimal())
    wanted = ".".join(map(str, OLDEST_KEDA))
    upgrade = INSTALL_KEDA.replace("install", "upgrade --install", 1)
    if len(numbers) < 2:
        yield Finding(f"KEDA's version can't be told (tested: {wanted} and newer)", upgrade, warning=True)
    elif numbers < OLDEST_KEDA:
        yield Finding(
            f"KEDA {version} is older than {wanted}, which the farm is tested with", upgrade, warning=True
        )


def _see_programs(intent: Intent, cluster: KubeClient, survey: Survey) -> Iterator[Finding]:
    """Learn which programs are to get new images, beside the scaler."""
    if intent.in_cluster is not None:
        try:
            farm, images = intent.settings.kubernetes.farm, intent.settings.images
            survey.programs = page_and_exporter.find(cluster, farm, images)
        except errors.RefusedError:
            return  # which right is missing, another finding says
    yield from ()


def _check_removed(intent: Intent, cluster: KubeClient, survey: Survey) -> Iterator[Finding]:
    """No stream is taken down unnoticed."""
    del cluster
    removed = survey.removed(intent.settings)
    if removed:
        them = "it is" if len(removed) == 1 else "they are"
        yield Finding(
            f"{some_of(removed)}: no longer in streams of cluster.yaml, so {them} taken down, with retained topics "
            "and users at the broker",
            f"in cluster.yaml, under streams: - {next(iter(removed))}   (if that is not meant)",
            warning=True,
        )


def _check_nodes(settings: Settings, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Each node of GPU_QUERIES has its label, once, and a platform that is built."""
    if not settings.gpu_queries:
        yield Finding("GPU_QUERIES is empty", f"{SETUP}   (or name the nodes in cluster.yaml: GPU_QUERIES)")
    hosts = {node.host for node in nodes}
    for name in settings.gpu_queries:
        labelled = [node for node in nodes if node.name == name]
        command = f"kubectl label node {name} {NODE_LABEL}={name}"
        if len(labelled) > 1:
            others = ", ".join(node.host for node in labelled)
            yield Finding(f"nodes {others} all have the label {NODE_LABEL}={name}", f"{command} --overwrite")
        elif not labelled and name in hosts:
            yield Finding(
                f"node {name} lacks the label {NODE_LABEL}={name}", f"{command} --overwrite   (or {SETUP})"
            )
        elif not labelled:
            yield Finding(
                f"GPU_QUERIES names {name}, and no node has the label {NODE_LABEL}={name}",
                f"kubectl label node NODE {NODE_LABEL}={name}   (or take {name} out of GPU_QUERIES)",
                warning=True,
            )
        else:
            yield from _check_node(settings, labelled[0])


def _check_node(settings: Settings, node: Node) -> Iterator[Finding]:
    if not node.ready:
        yield Finding(f"node {node.host} is not Ready", f"kubectl describe node {node.host}", warning=True)
    if node.cordoned:
        yield Finding(f"node {node.host} is cordoned", f"kubectl uncordon {node.host}", warning=True)
    yield from check_platform(settings, node)


def check_platform(settings: Settings, node: Node) -> Iterator[Finding]:
    """An image is built for the node's machine, if one can be."""
    machine = node.labels.get("kubernetes.io/arch")
    platforms = settings.images.platform_list()
    if machine and machine not in MACHINES:
        yield Finding(
            f"node {node.host} is linux/{machine}, for which mediapipe has no packages; analyzers run on linux/"
            f"{' and linux/'.join(MACHINES)}",
            f"install a 64-bit system there, or take {node.name} out of GPU_QUERIES   (it can still be a camera)",
        )
    elif machine and not any(platform.split("/")[1] == machine for platform in platforms):
        yield Finding(
            f"node {node.host} is linux/{machine}, and images are built for {settings.images.platforms}",
            f"python3 build_and_push.py --platforms {settings.images.platforms},linux/{machine}",
        )


RIGHTS: Mapping[Kind, str] = {
    kinds.SCALED_JOB: "get list create patch delete",
    kinds.JOB: "list delete",
    kinds.POD: "list create delete",
    kinds.EVENT: "list",
    kinds.NODE: "get list",
    kinds.DEPLOYMENT: "list",
    kinds.LEASE: "list delete",
}
"""What build_and_push.py and stop.py do in the cluster, beside the master's taint and --in-cluster."""


def _check_rights(intent: Intent, cluster: KubeClient, survey: Survey) -> Iterator[Finding]:
    """We may do all of it: to learn that half-way would leave half a farm."""
    del survey
    needed = [(kind, verb) for kind, verbs in RIGHTS.items() for verb in verbs.split()]
    if intent.settings.kubernetes.master:
        needed.append((kinds.NODE, "patch"))
    if intent.in_cluster is not None:
        needed += page_and_exporter.RIGHTS
        try:
            needed += intent.in_cluster.rights(intent.in_cluster.is_set_up())
        except ForeignError as error:
            yield Finding(str(error), "cluster.yaml: another kubernetes.namespace or kubernetes.farm")
    mend = "kubectl apply -k deploy   (as an administrator; the role posture-operator has what is needed)"
    for lacking in dict.fromkeys(access.missing(cluster, needed)):
        yield Finding(lacking, mend)


def check_metrics(intent: Intent, survey: Survey) -> Iterator[Finding]:
    """Each node of GPU_QUERIES has a fresh metric; fills the survey."""
    settings = intent.settings
    if not settings.gpu_queries:
        return
    try:
        prometheus = Prometheus(
            settings.prometheus,
            settings.gpu_queries,
            lookback_s=ratios.WHILE_S,
            context=settings.kubernetes.context,
        )
        survey.readings = prometheus.sample()
    except UserError as error:
        yield Finding(str(error), "correct cluster.yaml: prometheus")
        return
    unknown = [reading for reading in survey.readings.values() if isinstance(reading, UsageUnknownError)]
    if survey.waiting_exporters and len(unknown) == len(survey.readings):
        yield Finding(
            "no node's usage is known yet: the exporters have no image",
            "nothing to do: they get it first, and the streams are placed when the usage is known",
            warning=True,
        )
        return
    for reading in unknown:
        query = settings.gpu_queries[reading.node]
        asked = " or ".join(signal.metric or f"({signal.query})" for signal in query.signals)
        yield Finding(
            f"no GPU usage of {reading}",
            f"{shlex.join(command(settings.prometheus.url, asked))}   (it must show instance {query.instance})",
            warning=len(unknown) < len(survey.readings),
        )


def check_requests(intent: Intent, survey: Survey) -> Iterator[Finding]:
    """What all streams request together is there; a pod whose requests fit nowhere waits."""
    settings = intent.settings
    nodes = [
        node
        for node in survey.nodes
        if node.name in settings.gpu_queries and node.host != settings.kubernetes.master and not node.cordoned
    ]
    pods = [{**requests_of(pod), "pods": 1.0} for pod in survey.pods]
    free = [free_of(node, {}) for node in nodes]
    # a node that doesn't say what it has says nothing against it, either
    if not pods or not free or not all({"cpu", "memory", "pods"} <= one.keys() for one in free):
        return
    placed = fitting(pods, free)
    if placed < len(pods):
        asked, there = _sum(pods), _sum(free)
        yield Finding(
            f"{len(pods)} streams request {asked}; "
            f"{some_of(node.host for node in nodes)} can give {there}: {placed} streams fit",
            "cluster.yaml: kubernetes.requests_cpu and .requests_memory   (docs/sizing.md), or more nodes",
            warning=True,
        )


def _sum(amounts: Sequence[Mapping[str, float]]) -> str:
    cpu, memory, pods = (sum(one.get(name, 0.0) for one in amounts) for name in ("cpu", "memory", "pods"))
    return f"{cpu:.1f} cores, {memory / 2**30:.1f} GiB and {pods:.0f} pods"


def check_places(intent: Intent, survey: Survey) -> Iterator[Finding]:
    """There is a node for the streams, also when the master is tainted."""
    settings = intent.settings
    master = settings.kubernetes.master
    if not survey.reached:
        return
    if master and master not in {node.host for node in survey.nodes}:
        yield Finding(f"the master {master} is no node of this cluster", "kubectl get nodes   (and --master NAME)")
    if survey.fit(settings) or survey.waiting_exporters:
        return
    if survey.fit(settings, with_master=True):
        yield Finding(
            f"the master {master} is the only node where a stream can run; tainting it would leave none",
            'python3 build_and_push.py --master ""   (or make another node ready)',
        )
    else:
        yield Finding(
            "no node of GPU_QUERIES can take a stream: none is Ready, schedulable, tolerated, and has a metric",
            "kubectl get nodes -L gpu-node",
        )
