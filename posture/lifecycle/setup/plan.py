"""What there is to do to make a cluster a farm: only what is not so already, as steps that may be cut off anywhere.

What is kept here is written first, and the cluster gets it afterwards: a run that was killed between two steps is
completed by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import yaml

from posture.errors import FailedError, UserError
from posture.kube import errors, kinds, labels, ownership
from posture.kube.affinity import NODE_LABEL
from posture.kube.annotations import path_of, same_object, set_operations
from posture.kube.client import KubeClient, Object
from posture.kube.objects import name_of
from posture.lifecycle import broker_access
from posture.lifecycle.scaler_in_cluster import CONFIG_MAP, MADE
from posture.lifecycle.scaler_in_cluster import TRIGGER_AUTHENTICATION as AUTHENTICATION
from posture.lifecycle.setup import addresses, nodes, settings_lines
from posture.lifecycle.setup.environment_file import OWNER_ONLY
from posture.lifecycle.setup.kept import COPY, Kept
from posture.lifecycle.setup.nodes import Machine
from posture.lifecycle.setup.objects import BROKER_TLS, CLIENT_TLS
from posture.lifecycle.setup.survey import BROKER, BY_SETUP, PICTURES, TRIGGER_AUTHENTICATION, Survey
from posture.lifecycle.steps import Step
from posture.natural_order import some_of
from posture.runtime import ROOT, Stop
from posture.settings.table import Settings
from posture.system import files
from posture.system.commands import StoppedError
from posture.wire import identities

LABELLED = "posture-farm/labelled"
"""Annotation of a node whose label ``gpu-node`` is ours; its value is the farm."""
CERTIFICATE = "posture-farm/certificate"
"""Annotation of the broker's pods, beside that of broker_access: what they have read at their start."""
AUTHENTICATION_FILE = ROOT / "deploy" / "overlays" / "tls" / "trigger-authentication.yaml"
LOOK_EVERY_S = 2.0


def steps(
    cluster: KubeClient,
    settings: Settings,
    config: Path,
    kept: Kept,
    wanted: Sequence[Object],
    survey: Survey,
    stop: Stop,
) -> list[Step]:
    """Return what there is to do, in its order; nothing where all is as it must be.

    Args:
        cluster: where.
        settings: the farm's.
        config: its cluster.yaml.
        kept: the secrets.
        wanted: the objects that are to be there.
        survey: what is there.
        stop: ends a wait.
    """
    return [
        *_here(kept),
        *_settings(settings, config, survey),
        *_labels(cluster, settings, survey),
        *_objects(cluster, settings.kubernetes.farm, wanted, survey),
        *_restart(cluster, wanted, survey),
        *_authentication(cluster, settings, wanted, survey, stop),
    ]


def _here(kept: Kept) -> Iterator[Step]:
    path = kept.environment.path
    text = kept.environment.with_values(kept.made)
    new = [name for name, value in kept.made.items() if kept.environment.values.get(name) != value]
    if text != kept.environment.text or kept.environment.others_may_read:
        what = f"with {', '.join(new)}" if new else "for its owner alone"
        yield Step(f"write {path.name} {what}", [], partial(_write_environment, path, text))
    content = kept.files()
    changed = [
        one for one, wanted in content.items() if not one.exists() or one.read_text(encoding="utf-8") != wanted
    ]
    if changed:
        folders = list(dict.fromkeys(str(one.parent.relative_to(kept.folder.parent)) for one in changed))
        yield Step(f"write {some_of(folders)}", [], partial(identities.write, kept.folder, content))


def _write_environment(path: Path, text: str) -> None:
    try:
        if path.exists():
            path.chmod(OWNER_ONLY)
        files.replace(path, text.encode(), mode=OWNER_ONLY)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None


def queries(settings: Settings, machines: Sequence[Machine]) -> dict[str, str]:
    """Return the entries of GPU_QUERIES that are missing: node -> entry."""
    return {one.name: one.query for one in machines if one.name not in settings.gpu_queries}


def found_settings(settings: Settings, survey: Survey) -> dict[str, str]:
    """Return the settings at their defaults of which the cluster says what they must be: name -> value, as YAML."""
    namespace = settings.kubernetes.namespace
    found = {}
    services = addresses.prometheus_services(survey)
    if services and settings.prometheus.url == type(settings.prometheus)().url:
        where, name = services[0]
        found["prometheus.url"] = f"kubernetes://{where}/{name}:{addresses.PROMETHEUS_PORT}"
    registry = addresses.registry(survey, namespace)
    if registry and not settings.images.registry:
        found["images.registry"] = registry
    if PICTURES in survey.stateful_sets and not settings.analyzer.pictures_url:
        found["analyzer.pictures_url"] = pictures_url(namespace)
    return found


def pictures_url(namespace: str) -> str:
    """Return where the stack keeps pictures."""
    return f"s3+http://{PICTURES}.{namespace}.svc:8333/posture"


def _settings(settings: Settings, config: Path, survey: Survey) -> Iterator[Step]:
    machines = nodes.chosen(survey.machines, settings.kubernetes.master)
    lines, found = queries(settings, machines), found_settings(settings, survey)
    if not lines and not found:
        return
    try:
        text = config.read_text(encoding="utf-8") if config.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    edited = settings_lines.added(text, lines, found, config)
    told = [f"GPU_QUERIES for {some_of(list(lines))}"] if lines else []
    told += [f"{name}: {value}" for name, value in found.items()]
    yield Step(f"write into {config.name}: {'; '.join(told)}", [], partial(write_settings, config, edited))


def write_settings(path: Path, text: str) -> None:
    """Replace cluster.yaml as a whole; who may read it stays.

    Raises:
        UserError: it can't be written.
    """
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        files.replace(path, text.encode(), mode=mode)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None


def _labels(cluster: KubeClient, settings: Settings, survey: Survey) -> Iterator[Step]:
    machines = nodes.chosen(survey.machines, settings.kubernetes.master)
    for one in nodes.unlabelled(machines):
        host = one.node.host
        yield Step(
            f"label node {host}{', which has a GPU' if one.gpu else ''}",
            [["kubectl", "label", "node", host, f"{NODE_LABEL}={one.name}"]],
            partial(label, cluster, host, one.name, settings.kubernetes.farm),
            f"kubectl label node {host} {NODE_LABEL}-",
        )


def label(cluster: KubeClient, host: str, name: str, farm: str) -> None:
    """Give a node its label, and note in the same change that it is ours; one that it has by now stays.

    Raises:
        KubeError: the API server did not do it.
    """
    live = cluster.get(kinds.NODE, host)["metadata"]
    if NODE_LABEL in (live.get("labels") or {}):
        return
    operations = [same_object(live["uid"]), *set_operations(live.get("annotations"), {LABELLED: farm})]
    if live.get("labels") is None:
        operations.append({"op": "add", "path": "/metadata/labels", "value": {NODE_LABEL: name}})
    else:
        operations.append({"op": "add", "path": f"/metadata/labels/{NODE_LABEL}", "value": name})
    cluster.patch(kinds.NODE, host, operations)


def unlabel(cluster: KubeClient, host: str, farm: str) -> None:
    """Take a node's label away if it is ours.

    Raises:
        KubeError: the API server did not do it.
    """
    live = cluster.get(kinds.NODE, host)["metadata"]
    if not is_labelled_by_us(live, farm):
        return
    operations = [same_object(live["uid"]), {"op": "remove", "path": path_of(LABELLED)}]
    if NODE_LABEL in (live.get("labels") or {}):
        operations.append({"op": "remove", "path": f"/metadata/labels/{NODE_LABEL}"})
    cluster.patch(kinds.NODE, host, operations)


def is_labelled_by_us(metadata: Mapping[str, object], farm: str) -> bool:
    """Return whether a node's label ``gpu-node`` is ours."""
    notes = metadata.get("annotations") or {}
    return isinstance(notes, dict) and notes.get(LABELLED) == farm


def _objects(cluster: KubeClient, farm: str, wanted: Sequence[Object], survey: Survey) -> Iterator[Step]:
    for item in wanted:
        live = survey.held.get((item["kind"], item["metadata"]["namespace"], name_of(item)))
        if live is not None and _is_so(live, item):
            continue
        kind = kinds.SECRET if item["kind"] == kinds.SECRET.name else CONFIG_MAP
        verb = "make" if live is None else "change"
        undo = f"kubectl -n {item['metadata']['namespace']} delete {kind.name.lower()} {name_of(item)}"
        yield Step(
            f"{verb} {kind.name.lower()} {name_of(item)} in {item['metadata']['namespace']}",
            [],
            partial(_apply, cluster, item, farm),
            undo if live is None else "",
        )


def _apply(cluster: KubeClient, item: Object, farm: str) -> None:
    kind = kinds.SECRET if item["kind"] == kinds.SECRET.name else CONFIG_MAP
    namespace = item["metadata"]["namespace"]
    if namespace == cluster.namespace:
        ownership.apply(cluster, kind, item, farm)
    else:
        cluster.apply(kind, name_of(item), item, namespace, force=True)


def _is_so(live: Object, item: Object) -> bool:
    """Return whether an object has what it is to have; more is somebody else's, but in our own copy."""
    data, metadata = live.get("data") or {}, live["metadata"]
    marks = (metadata.get("labels") or {}).get(labels.FARM) == item["metadata"]["labels"][labels.FARM]
    notes = item["metadata"]["annotations"].items() <= (metadata.get("annotations") or {}).items()
    same = item["data"].items() <= data.items()
    return marks and notes and same and (name_of(item) != COPY or data.keys() == item["data"].keys())


def _restart(cluster: KubeClient, wanted: Sequence[Object], survey: Survey) -> Iterator[Step]:
    """Let the broker's pod be replaced where it has read other users or another certificate."""
    live = survey.stateful_sets.get(BROKER)
    if live is None:
        return
    digests = {}
    for item in wanted:
        if name_of(item) == BROKER:
            digests[broker_access.CHECKSUM] = broker_access.digest(item["data"], broker_access.KEYS)
        elif name_of(item) == BROKER_TLS:
            digests[CERTIFICATE] = broker_access.digest(item["data"], ("tls.crt",))
    notes = live["spec"]["template"]["metadata"].get("annotations")
    if any((notes or {}).get(name) != value for name, value in digests.items()):
        yield Step("let the broker read its users and its certificate", [], partial(_annotate, cluster, digests))


def _annotate(cluster: KubeClient, digests: Mapping[str, str]) -> None:
    live = cluster.get(kinds.STATEFUL_SET, BROKER)
    notes = live["spec"]["template"]["metadata"].get("annotations")
    operations = [{**one, "path": f"/spec/template{one['path']}"} for one in set_operations(notes, digests)]
    cluster.patch(kinds.STATEFUL_SET, BROKER, [same_object(live["metadata"]["uid"]), *operations])


def _authentication(
    cluster: KubeClient, settings: Settings, wanted: Sequence[Object], survey: Survey, stop: Stop
) -> Iterator[Step]:
    """Let KEDA know its certificate for the scaler. K3s installs KEDA by and by, so its kinds may come later."""
    if CLIENT_TLS not in map(name_of, wanted) or AUTHENTICATION in (survey.authentications or {}):
        return
    yield Step(
        f"let KEDA connect to the scaler: TriggerAuthentication {AUTHENTICATION}",
        [["kubectl", "apply", "-f", str(AUTHENTICATION_FILE.relative_to(ROOT))]],
        partial(_authenticate, cluster, settings, stop),
    )


def _authenticate(cluster: KubeClient, settings: Settings, stop: Stop) -> None:
    timeout_s = settings.kubernetes.start_timeout_s
    deadline = time.monotonic() + timeout_s
    told = False
    while not _has_keda(cluster):
        if not told:
            print("    waiting for KEDA, which K3s is installing", flush=True)
            told = True
        if stop.requested:
            raise StoppedError("interrupted")
        if time.monotonic() > deadline:
            raise FailedError(
                f"KEDA's kinds are not there after {timeout_s:g} s; see kubectl -n keda get pods,jobs"
            )
        stop.wait(LOOK_EVERY_S)
    body = yaml.safe_load(AUTHENTICATION_FILE.read_text(encoding="utf-8"))
    body["metadata"]["namespace"] = cluster.namespace
    body["metadata"].setdefault("annotations", {})[MADE] = BY_SETUP
    ownership.apply(cluster, TRIGGER_AUTHENTICATION, body, settings.kubernetes.farm)


def _has_keda(cluster: KubeClient) -> bool:
    try:
        cluster.list(TRIGGER_AUTHENTICATION)
    except errors.NotFoundError:
        return False
    return True
