"""What can't work with scaler and balancer in the cluster, where loopback is another and our environment is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from posture.errors import UserError
from posture.kube import errors, kinds, taints
from posture.kube.affinity import allows
from posture.kube.client import KubeClient, Object
from posture.kube.objects import Node
from posture.lifecycle.preflight.cluster import MACHINES
from posture.lifecycle.preflight.findings import SETUP, Finding, Intent, Survey
from posture.lifecycle.preflight.pods import pod_of
from posture.lifecycle.scaler_in_cluster import InCluster
from posture.natural_order import some_of
from posture.settings import loading
from posture.settings.table import Settings, all_settings, environment_name
from posture.system.addresses import is_loopback

READ_THERE = frozenset({"prometheus", "balancer", "scaler", "mqtt"})
"""Sections that scaler and balancer read, and of ``kubernetes`` these:"""
OF_KUBERNETES = frozenset({"namespace", "farm", "master"})
OURS_ALONE = frozenset({"scaler.address"})
"""Settings of those sections that only the scripts on this machine read."""
TLS = ("scaler.tls_cert", "scaler.tls_key", "scaler.client_ca")


@dataclass(frozen=True)
class There:
    """What scaler and balancer will find in the cluster.

    Attributes:
        path: the file that becomes their ConfigMap.
        settings: what it says, without this machine's environment and the flags.
        deployment: the one that is there, or else the one that will be made.
    """

    path: Path
    settings: Settings
    deployment: Object

    @property
    def pod(self) -> Object:
        """The pod's template."""
        template: Object = self.deployment["spec"]["template"]
        return template

    def variables(self) -> dict[str, Object]:
        """Return the variables that any of its containers gets, each as the template has it."""
        return {entry["name"]: entry for one in self.pod["spec"]["containers"] for entry in one.get("env") or []}

    def value(self, setting: str) -> Any:
        """Return a setting's value there: its variable's, if that is written in the template, else the file's."""
        section, _, name = setting.partition(".")
        entry = self.variables().get(environment_name(section, name), {})
        return entry.get("value", getattr(getattr(self.settings, section), name))


def check(intent: Intent, cluster: KubeClient, trial: KubeClient, survey: Survey) -> Iterator[Finding]:
    """Look at what is different there; nothing where the scaler runs on this machine.

    Args:
        intent: what is about to be done.
        cluster: the cluster, of which things are only read.
        trial: the same, with changes that are checked and not made.
        survey: which programs get our images beside the scaler.
    """
    if intent.in_cluster is None:
        return
    try:
        there = _look(intent.in_cluster)
        nodes = [Node.read(item) for item in cluster.list(kinds.NODE)]
    except UserError as error:
        yield Finding(f"for the pods, which have no environment of ours: {error}", "correct cluster.yaml")
        return
    except errors.KubeError:
        return  # a right is missing or the Deployment is another farm's, which another finding says
    yield from check_settings(intent.settings, there)
    yield from check_addresses(there)
    yield from check_files(there)
    yield from check_tls(intent, there)
    programs = {str(one): dict(one.item["spec"]["template"]["spec"]) for one in survey.programs}
    yield from check_machines(intent.settings, {"the scaler": there.pod["spec"], **programs}, nodes)
    yield from _check_admission(intent, trial, there)


def _look(in_cluster: InCluster) -> There:
    return There(in_cluster.config_path, loading.load(in_cluster.config), in_cluster.deployment())


def check_settings(here: Settings, there: There) -> Iterator[Finding]:
    """What this machine's environment or a flag says is in the file, too, which is all that pods get.

    Args:
        here: settings with environment and flags.
        there: what the pods find.
    """
    name = there.path.name
    if here.gpu_queries != there.settings.gpu_queries:
        yield Finding(
            f"GPU_QUERIES or signals are given by the environment here, and the scaler there reads {name} alone",
            f"write GPU_QUERIES and signals into {name} ({SETUP} does), and take them out of the environment",
        )
    variables = there.variables()
    for section, setting, entry in all_settings():
        known = section in READ_THERE or (section == "kubernetes" and setting in OF_KUBERNETES)
        variable, full = environment_name(section, setting), f"{section}.{setting}"
        if not known or full in OURS_ALONE or variable in variables:
            continue
        given = getattr(getattr(here, section), setting)
        if given == getattr(getattr(there.settings, section), setting):
            continue
        secret = entry.metadata["secret"] or entry.metadata["may_hold_secret"]
        yield Finding(
            f"{full} is given by {variable} or a flag here, and the scaler there reads {name} alone",
            f"{variable} in the template of deployment posture-scaler, by a Secret"
            if secret
            else f"in {name}, under {section}: {setting}: {given}",
        )


def check_addresses(there: There) -> Iterator[Finding]:
    """Prometheus' address means something in a pod: its loopback is its own."""
    host = urlsplit(str(there.value("prometheus.url"))).hostname or ""
    if is_loopback(host) and not there.pod["spec"].get("hostNetwork"):
        yield Finding(
            f"the scaler in the cluster would ask Prometheus at {host}, which in a pod is the pod itself",
            f"in {there.path.name}, under prometheus: url: kubernetes://NAMESPACE/SERVICE:PORT   (or {SETUP})",
        )


def check_files(there: There) -> Iterator[Finding]:
    """Files that settings name are in the pod: it has none of this machine's."""
    mounted = [
        mount["mountPath"] for one in there.pod["spec"]["containers"] for mount in one.get("volumeMounts") or []
    ]
    for section, name, entry in all_settings():
        full = f"{section}.{name}"
        if section not in READ_THERE or not (entry.metadata["accepted"] == "a path" and entry.default == ""):
            continue
        path = str(there.value(full))
        if path and not any(path.startswith(f"{folder.rstrip('/')}/") for folder in mounted):
            mend = "kubectl apply -k deploy/overlays/tls" if full in TLS else f"a volume there, and {full} in it"
            yield Finding(
                f"{full} is {path}, and the scaler's pod has no such file",
                f"{mend}   (and take {full} out of {there.path.name})",
            )


def check_tls(intent: Intent, there: There) -> Iterator[Finding]:
    """The triggers speak to the scaler as it listens."""
    has_tls = bool(there.value("scaler.tls_cert"))
    others = [
        stream
        for stream, manifest in intent.manifests.items()
        if (manifest["spec"]["triggers"][0].get("metadata", {}).get("enableTLS") == "true") != has_tls
    ]
    if others:
        wants, has = ("plaintext", "TLS") if has_tls else ("TLS", "plaintext")
        yield Finding(
            f"the triggers of {some_of(others)} want {wants}, and the scaler in the cluster has {has}",
            'in posture-job-*.yaml and deploy/posture-job.yaml: enableTLS: "true" and authenticationRef'
            if has_tls
            else "kubectl apply -k deploy/overlays/tls   (or no enableTLS in posture-job-*.yaml)",
        )


def check_machines(settings: Settings, pods: Mapping[str, Object], nodes: Sequence[Node]) -> Iterator[Finding]:
    """Images are built for each node that these pods may be put on, also where no analyzer runs.

    Args:
        settings: what images are built for.
        pods: whose pod -> its spec, which says what nodes it accepts.
        nodes: all of the cluster's.
    """
    built = {platform.split("/")[1] for platform in settings.images.platform_list()}
    for node in nodes:
        machine = node.labels.get("kubernetes.io/arch", "")
        if not machine or machine in built or node.name in settings.gpu_queries:
            continue  # of those with streams another finding says it
        going = [name for name, pod in pods.items() if _accepts(pod, node)]
        if going:
            yield Finding(
                f"{some_of(going)} may be put on node {node.host}, which is linux/{machine}, and images are built "
                f"for {settings.images.platforms}",
                f"python3 build_and_push.py --in-cluster --platforms {settings.images.platforms},linux/{machine}"
                if machine in MACHINES
                else f"kubectl taint node {node.host} {machine}=true:NoSchedule   (there is no image for it)",
            )


def _accepts(pod: Object, node: Node) -> bool:
    tolerations = pod.get("tolerations") or []
    barred = any(not taints.tolerates(tolerations, taint) for taint in taints.taint_texts(node))
    return not barred and allows(pod.get("affinity"), pod.get("nodeSelector"), dict(node.labels), node.host)


def _check_admission(intent: Intent, trial: KubeClient, there: There) -> Iterator[Finding]:
    """The cluster admits the scaler's pod: no PodSecurity level, quota or webhook is against it."""
    namespace = intent.settings.kubernetes.namespace
    body = pod_of(str(there.deployment["metadata"]["name"]), there.pod)
    # its account may be made later; which one it is decides nothing here
    body["spec"] = {**body["spec"], "serviceAccountName": "default"}
    try:
        trial.create(kinds.POD, body)
    except (errors.NotFoundError, errors.RefusedError):
        return  # the namespace or the right is missing, which another finding says
    except errors.KubeError as error:
        said = str(error)
        yield Finding(
            f"the cluster admits no pod of the scaler: {said}",
            f"kubectl -n {namespace} describe quota,limits; kubectl get namespace {namespace} --show-labels",
            # the pod that is to be replaced may be what fills the quota
            warning="exceeded quota" in said and "uid" in there.deployment["metadata"],
        )
