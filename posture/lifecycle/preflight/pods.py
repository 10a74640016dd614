"""What the analyzers' pods need: Secrets, volumes, addresses that a pod can reach."""

from __future__ import annotations

import base64
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from posture.kube import errors, kinds, labels, ownership
from posture.kube.client import KubeClient, Object
from posture.kube.kinds import Kind
from posture.lifecycle.preflight.findings import SETUP, Finding, Intent, Survey, pod_spec
from posture.lifecycle.scaler_in_cluster import CONFIG_MAP
from posture.natural_order import some_of
from posture.settings import table
from posture.system.addresses import is_loopback

NO_RUNTIME = (
    "kubectl get runtimeclass nvidia; it comes with NVIDIA's container runtime on the nodes (docs/boards.md), "
    "or set kubernetes.gpu: none"
)
PICTURES_KEYS = ("POSTURE_PICTURES_KEY_ID", "POSTURE_PICTURES_SECRET_KEY")
PICTURES_DIR = "/app/analyzed_images"
"""In an analyzer's image."""
CLAIM = Kind("PersistentVolumeClaim", "v1", "persistentvolumeclaims")


def check_needs(intent: Intent, cluster: KubeClient, survey: Survey) -> Iterator[Finding]:
    """What pods need is there: Secrets with their keys, a database and volumes that nodes can share."""
    del survey

    @functools.cache
    def read(kind: Kind, name: str) -> Object | None:
        try:
            return cluster.get(kind, name)
        except errors.NotFoundError:
            return None

    yield from check_topics(intent, cluster, read)
    yield from check_pictures(intent, read)
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
        command = f"kubectl -n {namespace} create secret generic {name} --from-env-file=.env   (or {SETUP})"
        found = read(kinds.SECRET, name)
        if found is None:
            yield Finding(f"secret {name} does not exist, and the analyzers need it", command)
        elif key and key not in (found.get("data") or {}):
            yield Finding(
                f"secret {name} has no key {key}, and the analyzers need it",
                f"kubectl -n {namespace} edit secret {name}   (or {SETUP})",
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
                "in posture-job-*.yaml: a claim with accessModes: [ReadWriteMany], or analyzer.pictures_url",
            )


def check_addresses(stream: str, manifest: Object, read: Read) -> Iterator[Finding]:
    """The addresses of broker, database and pictures mean something in a pod: its loopback is its own.

    Args:
        stream: whose pod it is.
        manifest: its ScaledJob.
        read: gets an object of the cluster.
    """
    if pod_spec(manifest).get("hostNetwork"):
        return
    for name in ("POSTURE_MQTT_URL", "POSTURE_DATABASE_URL", "POSTURE_PICTURES_URL"):
        host = _host_of(_value_of(name, manifest, read))
        if is_loopback(host):
            yield Finding(
                f"stream {stream} would look for {name} at {host}, which in a pod is the pod itself",
                f"set {name} to an address that all nodes reach",
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


def check_pictures(intent: Intent, read: Read) -> Iterator[Finding]:
    """Pictures that are kept go where they outlive their pod, with a key where one is needed.

    Args:
        intent: what is about to be done.
        read: gets an object of the cluster.
    """
    namespace = intent.settings.kubernetes.namespace
    lost, lacking = [], set()
    for stream, manifest in intent.manifests.items():
        value_of = functools.partial(_value_of, manifest=manifest, read=read)
        if "none" in (value_of("POSTURE_ANALYZER_PICTURES"), value_of("POSTURE_ANALYZER_KEEP")):
            continue
        if value_of("POSTURE_PICTURES_URL"):
            lacking |= {name for name in PICTURES_KEYS if not value_of(name)}
        elif _ends_with_pod(manifest, value_of("POSTURE_ANALYZER_PICTURES_DIR") or PICTURES_DIR):
            lost.append(stream)
    for name in sorted(lacking):
        yield Finding(
            f"secret posture-farm has no key {name}, and analyzer.pictures_url needs it",
            f"kubectl -n {namespace} edit secret posture-farm",
        )
    if lost:
        yield Finding(
            f"pictures of {some_of(lost)} end with the pods that made them",
            "analyzer.pictures_url in cluster.yaml, or kubernetes.pictures_host_path (docs/pictures.md)",
            warning=True,
        )


def _ends_with_pod(manifest: Object, folder: str) -> bool:
    """Return whether a folder of the analyzer is in no volume that outlives the pod."""
    pod = pod_spec(manifest)
    short_lived = {volume["name"] for volume in pod.get("volumes") or [] if "emptyDir" in volume}
    mounts = [
        mount["name"]
        for mount in pod["containers"][0].get("volumeMounts") or []
        if PurePosixPath(folder).is_relative_to(mount["mountPath"])
    ]
    return not mounts or set(mounts) <= short_lived


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


def check_topics(intent: Intent, cluster: KubeClient, read: Read) -> Iterator[Finding]:
    """No other farm here reads the same stream of the same broker: each would take the other's frames away.

    Args:
        intent: what is about to be done.
        cluster: where.
        read: gets an object of the cluster.
    """
    try:
        others = cluster.list(kinds.SCALED_JOB, {labels.STREAM: intent.manifests.keys()})
    except errors.NotFoundError:
        return  # without KEDA, which another finding says
    for other in others:
        owner, stream = (other["metadata"]["labels"].get(name) for name in (labels.FARM, labels.STREAM))
        if owner == intent.settings.kubernetes.farm:
            continue
        topics = [
            tuple(_value_of(name, item, read) for name in ("POSTURE_MQTT_URL", "POSTURE_MQTT_PREFIX"))
            for item in (other, intent.manifests[stream])
        ]
        if topics[0] == topics[1]:
            yield Finding(
                f"stream {stream} is farm {owner}'s, too, at the same broker: its analyzers would share the frames",
                "another mqtt.prefix for one of the farms in cluster.yaml, and for its cameras (--prefix)",
                warning=True,  # of brokers that have one address and are two, nothing can be known here
            )


def check_manifests(intent: Intent, trial: KubeClient) -> Iterator[Finding]:
    """The cluster accepts the ScaledJobs, as far as can be told without making them; none is another farm's."""
    farm = intent.settings.kubernetes.farm
    for manifest in intent.manifests.values():
        name = str(manifest["metadata"]["name"])
        try:
            ownership.apply(trial, kinds.SCALED_JOB, manifest, farm)
        except ownership.ForeignError as error:
            yield Finding(str(error), "another metadata.name in its posture-job-*.yaml, or another kubernetes.farm")
        except (errors.NotFoundError, errors.RefusedError):
            return  # KEDA, the namespace or the right is missing, which another finding says
        except errors.KubeError as error:
            yield Finding(f"the cluster does not take scaledjob {name}: {error}", "correct its posture-job-*.yaml")


def check_admission(intent: Intent, trial: KubeClient, survey: Survey) -> Iterator[Finding]:
    """The cluster admits the analyzers' pods: no quota, PodSecurity level, LimitRange or webhook is against them.

    Without this it would show only after the farm's start, in the Events of a Job that gets no pod.
    """
    told: set[str] = set()
    namespace = intent.settings.kubernetes.namespace
    for stream, manifest in intent.manifests.items():
        try:
            trial.create(
                kinds.POD, pod_of(manifest["metadata"]["name"], manifest["spec"]["jobTargetRef"]["template"])
            )
        except (errors.NotFoundError, errors.RefusedError):
            return  # the namespace or the right is missing, which another finding says
        except errors.KubeError as error:
            if (said := str(error)) in told:
                continue
            told.add(said)
            # of a stream that is there already, the pod that is to be replaced may be what fills the quota
            by_itself = stream in survey.scaled_jobs and "exceeded quota" in said
            untried = "does not support dry run" in said
            yield Finding(
                f"the cluster admits no pod of stream {stream}: {said}",
                _mend_of(said, namespace),
                warning=by_itself or untried,
            )


def _mend_of(refusal: str, namespace: str) -> str:
    if "RuntimeClass" in refusal:
        return NO_RUNTIME
    if "hostPath" in refusal:
        return (
            f"kubectl label --overwrite namespace {namespace} pod-security.kubernetes.io/enforce=privileged, "
            "or analyzer.pictures_url in place of the hostPath (docs/pictures.md)"
        )
    return f"kubectl -n {namespace} describe quota,limits; kubectl get namespace {namespace} --show-labels"


def pod_of(name: str, template: Object) -> Object:
    """Return a pod as a Job or a Deployment of this name would make it of its template."""
    given = template.get("metadata") or {}
    metadata = {key: given[key] for key in ("labels", "annotations") if key in given}
    metadata["generateName"] = f"{name}-"
    return {"apiVersion": kinds.POD.api, "kind": kinds.POD.name, "metadata": metadata, "spec": template["spec"]}
