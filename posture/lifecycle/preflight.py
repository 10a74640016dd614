"""What must be right before a farm is built and placed: everything is looked at, then all findings are listed.

Nothing is changed here. A finding says what is wrong and which command mends it; a warning lets the work go on.
"""

from __future__ import annotations

import base64
import functools
import itertools
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from posture.errors import FailedError, UserError
from posture.kube import access, errors, kinds, labels, objects
from posture.kube.affinity import NODE_LABEL
from posture.kube.client import KubeClient, Object
from posture.kube.kinds import Kind
from posture.kube.objects import Node
from posture.lifecycle import container_images, placement
from posture.lifecycle.scaler_in_cluster import CONFIG_MAP, InCluster
from posture.scaler.server import check_exposure
from posture.scaler.tls import credentials
from posture.settings import table
from posture.settings.table import Settings
from posture.system import commands
from posture.system.addresses import is_loopback
from posture.usage.prometheus import Prometheus
from posture.usage.readings import Reading, UsageUnknownError

OLDEST_KEDA = (2, 20)
"""What the farm is tested with."""
CRD = Kind("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)
CLAIM = Kind("PersistentVolumeClaim", "v1", "persistentvolumeclaims")
INSTALL_KEDA = "helm install keda kedacore/keda --namespace keda --create-namespace --version 2.20.2"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        what: what is wrong, in a sentence.
        mend: the command, or the line of cluster.yaml, that mends it.
        warning: it can be lived with.
    """

    what: str
    mend: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{'warning' if self.warning else 'error'}: {self.what}\n    mend: {self.mend}"


@dataclass(frozen=True)
class Intent:
    """What is about to be done.

    Attributes:
        settings: with the flags applied.
        manifests: stream -> its ScaledJob.
        build: images are built and pushed, not just used.
        scaler_here: the scaler runs on this machine.
        in_cluster: or else the one that runs in the cluster.
        scaler_address: host:port that the ScaledJobs name.
        scaler_port: where the scaler listens here; None where it won't, or does already.
    """

    settings: Settings
    manifests: Mapping[str, Object]
    build: bool = True
    scaler_here: bool = True
    in_cluster: InCluster | None = None
    scaler_address: str = ""
    scaler_port: int | None = None


@dataclass
class Survey:
    """What was found in the cluster and in Prometheus.

    Attributes:
        reached: whether the cluster could be looked at.
        nodes: those with the label ``gpu-node``, and the master.
        scaled_jobs: stream -> the farm's ScaledJob that exists.
        readings: node -> its usage, or why it is unknown.
        tolerations: those of each stream's pod.
    """

    reached: bool = False
    nodes: list[Node] = field(default_factory=list)
    scaled_jobs: dict[str, Object] = field(default_factory=dict)
    readings: dict[str, Reading | UsageUnknownError] = field(default_factory=dict)
    tolerations: list[list[Object]] = field(default_factory=list)

    def images(self) -> dict[str, str]:
        """Return stream -> its analyzer's image, of the ScaledJobs that exist."""
        pods = {stream: pod_spec(item) for stream, item in self.scaled_jobs.items()}
        return {stream: str(pod["containers"][0]["image"]) for stream, pod in pods.items()}

    def fit(self, settings: Settings, *, with_master: bool = False) -> dict[str, Reading]:
        """Return the nodes where any stream may be placed: Ready, schedulable, tolerated, with a fresh metric.

        Args:
            settings: which nodes, and which of them is the master.
            with_master: count the master, as if it were not tainted.
        """
        found = self.qualifying(settings, with_master=with_master)
        return {name: reading for name, reading in found.items() if isinstance(reading, Reading)}

    def qualifying(
        self, settings: Settings, *, with_master: bool = False
    ) -> dict[str, Reading | UsageUnknownError]:
        """Return node -> its usage, or why no stream can be placed there; see :func:`placement.qualifying`."""
        return placement.qualifying(settings, self.readings, self.nodes, self.tolerations, with_master=with_master)


def check(intent: Intent, cluster: KubeClient, trial: KubeClient) -> tuple[list[Finding], Survey]:
    """Look at everything.

    Args:
        intent: what is about to be done.
        cluster: the cluster, of which things are only read.
        trial: the same, with changes that are checked and not made.

    Returns:
        The findings, and what the plan is made from.
    """
    survey = Survey(tolerations=[pod_spec(one).get("tolerations") or [] for one in intent.manifests.values()])
    findings = [*check_here(intent), *check_cluster(intent, cluster, survey)]
    if survey.reached:
        findings += check_manifests(intent, trial)
    findings += check_metrics(intent, survey)
    findings += check_places(intent, survey)
    return findings, survey


def check_here(intent: Intent) -> list[Finding]:
    """Look at everything that can be looked at without a cluster."""
    return [*check_docker(intent), *check_registry(intent), *check_gpu(intent), *check_scaler(intent)]


def no_cluster(why: Exception) -> list[Finding]:
    """Return the findings of a cluster that can't be reached."""
    return [
        Finding(f"Kubernetes can't be reached: {why}", "kubectl get nodes   (until this works)"),
        Finding("so KEDA, nodes, Secrets and rights were not checked", "see above", warning=True),
    ]


def check_docker(intent: Intent) -> Iterator[Finding]:
    """Docker, buildx, and the platforms that can be built here."""
    settings = intent.settings.images
    if not intent.build:
        return
    try:
        commands.run(["docker", "version", "--format", "{{.Server.Version}}"], settings.timeout_s)
    except commands.CommandError as error:
        mend = (
            "sudo apt-get install docker.io" if "can't be started" in str(error) else "sudo systemctl start docker"
        )
        yield Finding(f"docker's engine does not answer: {error}", mend)
        return
    try:
        commands.run(["docker", "buildx", "version"], settings.timeout_s)
        builder = container_images.inspect_builder(settings)
    except commands.CommandError as error:
        yield Finding(f"buildx does not work: {error}", "sudo apt-get install docker-buildx")
        return
    wanted = settings.platform_list()
    missing = [platform for platform in wanted if platform not in builder.platforms]
    if missing:
        yield Finding(
            f"builder {builder.name} can't build for {', '.join(missing)} (it can for "
            f"{', '.join(sorted(builder.platforms)) or 'nothing'})",
            "sudo apt-get install qemu-user-static binfmt-support   (or --platforms with what your nodes are)",
        )
    if len(wanted) > 1 and builder.driver == "docker":
        yield Finding(
            f"builder {builder.name} (driver docker) builds one platform at a time, not {settings.platforms}",
            "docker buildx create --name posture-farm --driver docker-container --use",
        )


def check_registry(intent: Intent) -> Iterator[Finding]:
    """The registry is there, and takes our pushes."""
    settings = intent.settings.images
    if not settings.registry:
        yield Finding("no registry is named", "python3 build_and_push.py --registry HOST[:PORT][/PATH]")
        return
    if not intent.build:
        return
    host = container_images.registry_host(settings.registry)
    answer = container_images.ask_registry(host, settings.timeout_s)
    if not answer.reachable:
        yield Finding(
            f"registry {host} can't be reached: {answer.trouble}",
            "python3 build_and_push.py --registry HOST[:PORT]",
        )
    elif answer.login and not container_images.has_login(host, settings.timeout_s):
        yield Finding(
            f"registry {host or 'Docker Hub'} wants a login, and docker has none that it takes",
            f"docker login {host}".rstrip(),
        )
    if answer.told is not None:
        what, where = answer.told
        yield Finding(
            f"registry {host}: its {what}, which docker, its builder and every node must have been told",
            f"{where.format(host=host)}   (and on each node, K3s: /etc/rancher/k3s/registries.yaml)",
            warning=True,
        )
    if (
        host
        and answer.login
        and not all(pod_spec(one).get("imagePullSecrets") for one in intent.manifests.values())
    ):
        yield Finding(
            f"registry {host} asks who one is, and the pods name no imagePullSecrets",
            "its credentials on each node, K3s: /etc/rancher/k3s/registries.yaml   "
            "(or imagePullSecrets in posture-job-*.yaml)",
            warning=True,
        )


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
    for look in (_check_namespace, _check_keda, _check_rights, _check_needs):
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


def _check_nodes(settings: Settings, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Each node of GPU_QUERIES has its label, once, and a platform that is built."""
    if not settings.gpu_queries:
        yield Finding("GPU_QUERIES is empty", "name the nodes in cluster.yaml: GPU_QUERIES")
    hosts = {node.host for node in nodes}
    for name in settings.gpu_queries:
        labelled = [node for node in nodes if node.name == name]
        command = f"kubectl label node {name} {NODE_LABEL}={name}"
        if len(labelled) > 1:
            others = ", ".join(node.host for node in labelled)
            yield Finding(f"nodes {others} all have the label {NODE_LABEL}={name}", f"{command} --overwrite")
        elif not labelled and name in hosts:
            yield Finding(f"node {name} lacks the label {NODE_LABEL}={name}", f"{command} --overwrite")
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
    machine = node.labels.get("kubernetes.io/arch")
    platforms = settings.images.platform_list()
    if machine and not any(platform.split("/")[1] == machine for platform in platforms):
        yield Finding(
            f"node {node.host} is linux/{machine}, and images are built for {settings.images.platforms}",
            f"python3 build_and_push.py --platforms {settings.images.platforms},linux/{machine}",
        )


RIGHTS: Mapping[Kind, str] = {
    kinds.SCALED_JOB: "get list create patch delete",
    kinds.JOB: "list delete",
    kinds.POD: "list delete",
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
        try:
            needed += intent.in_cluster.rights(intent.in_cluster.is_set_up())
        except FailedError as error:
            yield Finding(str(error), "cluster.yaml: another kubernetes.namespace or kubernetes.farm")
    mend = "kubectl apply -k deploy   (as an administrator; the role posture-operator has what is needed)"
    for lacking in dict.fromkeys(access.missing(cluster, needed)):
        yield Finding(lacking, mend)


def _check_needs(intent: Intent, cluster: KubeClient, survey: Survey) -> Iterator[Finding]:
    """What pods need is there: Secrets with their keys, a database and volumes that nodes can share."""
    del survey

    @functools.cache
    def read(kind: Kind, name: str) -> Object | None:
        try:
            return cluster.get(kind, name)
        except errors.NotFoundError:
            return None

    told: set[str] = set()
    for stream, manifest in intent.manifests.items():
        needs = (
            _missing_secrets(manifest, read),
            _check_database(stream, manifest, read),
            check_claims(manifest, read),
            check_addresses(stream, manifest, read),
        )
        for finding in itertools.chain(*needs):
            if finding.what not in told:
                told.add(finding.what)
                yield finding


Read = Callable[[Kind, str], Object | None]
"""Returns an object of the cluster, None where there is none."""


def _missing_secrets(manifest: Object, read: Read) -> Iterator[Finding]:
    namespace = manifest["metadata"].get("namespace", "")
    for name, key in _secret_references(manifest):
        command = f"kubectl -n {namespace} create secret generic {name} --from-env-file=.env"
        found = read(kinds.SECRET, name)
        if found is None:
            yield Finding(f"secret {name} does not exist, and the analyzers need it", command)
        elif key and key not in (found.get("data") or {}):
            yield Finding(
                f"secret {name} has no key {key}, and the analyzers need it",
                f"kubectl -n {namespace} edit secret {name}",
            )


def check_claims(manifest: Object, read: Read) -> Iterator[Finding]:
    """Each volume of the pod can be had on every node: one that is bound to a node would hold the stream there.

    Args:
        manifest: a ScaledJob.
        read: gets an object of the cluster.
    """
    namespace = manifest["metadata"].get("namespace", "")
    for volume in pod_spec(manifest).get("volumes") or []:
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if not name:
            continue
        found = read(CLAIM, name)
        modes = ((found or {}).get("spec") or {}).get("accessModes") or []
        if found is None:
            yield Finding(
                f"claim {name} does not exist, and the analyzers need it",
                f"kubectl -n {namespace} apply -f CLAIM.yaml   (accessModes: [ReadWriteMany])",
            )
        elif "ReadWriteMany" not in modes:
            yield Finding(
                f"claim {name} is {', '.join(modes)}: it would hold its streams on one node",
                "in posture-job-*.yaml: a claim with accessModes: [ReadWriteMany], or the hostPath",
            )


def check_addresses(stream: str, manifest: Object, read: Read) -> Iterator[Finding]:
    """The broker's and the database's addresses mean something in a pod: its loopback is its own.

    Args:
        stream: whose pod it is.
        manifest: its ScaledJob.
        read: gets an object of the cluster.
    """
    if pod_spec(manifest).get("hostNetwork"):
        return
    for name in ("POSTURE_MQTT_URL", "POSTURE_DATABASE_URL"):
        host = _host_of(_value_of(name, manifest, read))
        if is_loopback(host):
            yield Finding(
                f"stream {stream} would look for {name} at {host}, which in a pod is the pod itself",
                f"set {name} in the Secret to an address that all nodes reach",
                warning=True,  # there may be a sidecar
            )


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _secret_references(manifest: Object) -> Iterator[tuple[str, str]]:
    """Yield (Secret, key) of each that a pod can't do without; the key is empty where the whole Secret is meant."""
    pod = pod_spec(manifest)
    for container in pod.get("containers", []):
        for entry in container.get("env") or []:
            reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
            if reference and not reference.get("optional"):
                yield reference["name"], reference["key"]
        for entry in container.get("envFrom") or []:
            reference = entry.get("secretRef")
            if reference and not reference.get("optional"):
                yield reference["name"], ""
    for volume in pod.get("volumes") or []:
        reference = volume.get("secret")
        if reference and not reference.get("optional"):
            yield reference["secretName"], ""


def _check_database(stream: str, manifest: Object, read: Read) -> Iterator[Finding]:
    url = _value_of("POSTURE_DATABASE_URL", manifest, read) or table.Database().url
    shared = _value_of("POSTURE_DATABASE_SHARED", manifest, read).lower() in {"true", "yes", "on", "1"}
    if url.startswith("sqlite:") and not shared:
        yield Finding(
            f"stream {stream} would write its rows to SQLite on whatever node it runs, which other nodes don't see",
            "set POSTURE_DATABASE_URL to postgresql://... or Supabase's https://... in the Secret "
            "(or POSTURE_DATABASE_SHARED=true where the path is on storage that all nodes share)",
        )


def _value_of(name: str, manifest: Object, read: Read) -> str:
    """Return the value that a variable will have in the pod; empty if it has none."""
    value = ""
    for container in pod_spec(manifest).get("containers", []):
        for entry in container.get("envFrom") or []:
            for kind, field_name in ((kinds.SECRET, "secretRef"), (CONFIG_MAP, "configMapRef")):
                if field_name in entry:
                    value = _held(read(kind, entry[field_name]["name"]), name) or value
        for entry in container.get("env") or []:
            if entry["name"] == name:
                reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
                found = read(kinds.SECRET, reference["name"]) if reference else None
                value = _held(found, reference["key"]) if reference else str(entry.get("value", ""))
    return value


def _held(holder: Object | None, key: str) -> str:
    """Return a key's value in a Secret or ConfigMap; empty where it isn't there."""
    text = str(((holder or {}).get("data") or {}).get(key, ""))
    return base64.b64decode(text).decode(errors="replace") if (holder or {}).get("kind") == "Secret" else text


def check_manifests(intent: Intent, trial: KubeClient) -> Iterator[Finding]:
    """The cluster accepts the ScaledJobs, as far as can be told without making them."""
    for manifest in intent.manifests.values():
        name = str(manifest["metadata"]["name"])
        try:
            trial.apply(kinds.SCALED_JOB, name, manifest, force=True)
        except (errors.NotFoundError, errors.RefusedError):
            return  # KEDA, the namespace or the right is missing, which another finding says
        except errors.KubeError as error:
            yield Finding(f"the cluster does not take scaledjob {name}: {error}", "correct its posture-job-*.yaml")


def check_metrics(intent: Intent, survey: Survey) -> Iterator[Finding]:
    """Each node of GPU_QUERIES has a fresh metric; fills the survey."""
    settings = intent.settings
    if not settings.gpu_queries:
        return
    try:
        survey.readings = Prometheus(settings.prometheus, settings.gpu_queries).sample()
    except UserError as error:
        yield Finding(str(error), "correct cluster.yaml: prometheus")
        return
    unknown = [reading for reading in survey.readings.values() if isinstance(reading, UsageUnknownError)]
    for reading in unknown:
        yield Finding(
            f"no GPU usage of {reading}",
            f"curl -G {settings.prometheus.url}/api/v1/query --data-urlencode "
            f"'query={settings.gpu_queries[reading.node].metric}'   (it must show "
            f"instance {settings.gpu_queries[reading.node].instance})",
            warning=len(unknown) < len(survey.readings),
        )


def check_places(intent: Intent, survey: Survey) -> Iterator[Finding]:
    """There is a node for the streams, also when the master is tainted."""
    settings = intent.settings
    master = settings.kubernetes.master
    if not survey.reached:
        return
    if master and master not in {node.host for node in survey.nodes}:
        yield Finding(f"the master {master} is no node of this cluster", "kubectl get nodes   (and --master NAME)")
    if survey.fit(settings):
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


def check_gpu(intent: Intent) -> Iterator[Finding]:
    """Pods that reach a GPU: otherwise moving them changes nothing in what is balanced."""
    without = [stream for stream, manifest in intent.manifests.items() if not _asks_for_gpu(pod_spec(manifest))]
    if without:
        yield Finding(
            f"stream {', '.join(without)}: analyzers will run on the CPU, so moving them won't change GPU usage",
            "in posture-job-*.yaml, take the comment signs off runtimeClassName and the GPU's limits",
            warning=True,
        )


def _asks_for_gpu(pod: Object) -> bool:
    limits = [(container.get("resources") or {}).get("limits") or {} for container in pod.get("containers", [])]
    return bool(pod.get("runtimeClassName")) or any("gpu" in name for limit in limits for name in limit)


def check_scaler(intent: Intent) -> Iterator[Finding]:
    """KEDA can reach the scaler's address, and its port here is free."""
    host, _, port = intent.scaler_address.rpartition(":")
    if not intent.scaler_here:
        return
    if not host or not port.isdecimal():
        yield Finding(
            f"the scaler's address {intent.scaler_address!r} is not host:port",
            "python3 build_and_push.py --scaler-address HOST:PORT",
        )
    elif not _is_ours(host):
        yield Finding(
            f"the scaler will run here, and its address {intent.scaler_address} is not this machine's",
            "python3 build_and_push.py --scaler-address with an address of this machine (or --in-cluster)",
            warning=True,  # there may be a router or a load balancer between
        )
    yield from _check_exposure(intent)
    if intent.scaler_port is not None and not _is_free(intent.scaler_port):
        yield Finding(
            f"port {intent.scaler_port} is taken, and the scaler listens there",
            f"sudo ss -ltnp 'sport = :{intent.scaler_port}'   (end that program, or set scaler.listen)",
        )


def _check_exposure(intent: Intent) -> Iterator[Finding]:
    """The scaler would start as it is set, and KEDA speaks to it as it listens."""
    settings = intent.settings.scaler
    try:
        check_exposure(settings, os.environ)
        credentials(settings)
    except UserError as error:
        yield Finding(str(error), "cluster.yaml: scaler.insecure: true   (or tls_cert, tls_key and client_ca)")
    for stream, manifest in intent.manifests.items():
        with_tls = manifest["spec"]["triggers"][0].get("metadata", {}).get("enableTLS") == "true"
        if with_tls != bool(settings.tls_cert):
            has, wants = ("TLS", "plaintext") if settings.tls_cert else ("plaintext", "TLS")
            yield Finding(
                f"stream {stream}'s trigger wants {wants}, and the scaler has {has}",
                "in posture-job-*.yaml: enableTLS and authenticationRef   (or scaler.tls_cert in cluster.yaml)",
            )


def _is_ours(host: str) -> bool:
    """Return whether a name or address is one of this machine's: only those can be bound."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            return True
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def pod_spec(manifest: Object) -> dict[str, Any]:
    """Return the pod's part of a ScaledJob."""
    return dict(manifest["spec"]["jobTargetRef"]["template"]["spec"])


def scripts(folder: Path) -> dict[str, Path]:
    """Return stream -> analyzer script of every ``Images_From_Pi*.py``."""
    found = sorted(folder.glob("Images_From_Pi*.py"))
    return {f"pi{path.stem.removeprefix('Images_From_Pi')}".lower(): path for path in found}
