"""deploy/stack and its overlays, as kustomize renders them."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from go_module import folder_of
from kustomize_tool import render

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
STACK = DEPLOY / "stack"
OVERLAYS = DEPLOY / "overlays"
PARTS = ("keda", "prometheus", "broker", "database", "pictures")
WHOLE = (
    "stack",
    *(f"overlays/own-{part}" for part in PARTS),
    *(f"overlays/{name}" for name in ("kube-prometheus-stack", "host-path", "any-kubernetes")),
)
"""What an operator applies first, below deploy/."""
KEDA = ("github.com/kedacore/keda/v2", "v2.20.2")
NAMESPACE = "posture-farm"
Object = dict[str, Any]


@cache
def rendered(name: str) -> Sequence[Object]:
    """The objects of a folder below deploy/."""
    if name == "overlays/any-kubernetes":
        raise ValueError("it fetches KEDA's manifests: with_kedas_manifests")
    return render(DEPLOY / name)


def with_kedas_manifests(folder: Path) -> Path:
    """Copy deploy/ to a folder, with KEDA's manifests from its Go module instead of from its release."""
    shutil.copytree(DEPLOY, folder)
    module = folder_of(*KEDA)
    shutil.copytree(module / "config", folder / "keda")
    kustomization = folder / "stack" / "keda-manifests" / "kustomization.yaml"
    text = kustomization.read_text()
    (url,) = yaml.safe_load(text)["resources"]
    kustomization.chmod(0o644)
    kustomization.write_text(text.replace(url, "../../keda/default"))
    return folder


def objects(name: str, kind: str) -> list[Object]:
    return [item for item in rendered(name) if item["kind"] == kind]


def find(name: str, kind: str, object_name: str) -> Object:
    (found,) = (item for item in objects(name, kind) if item["metadata"]["name"] == object_name)
    return found


def pod_specs(items: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Each pod template of the objects: whose it is, and the template."""
    for item in items:
        spec = item.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if item["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job"}:
            yield f"{item['kind']} {item['metadata']['name']}", template


def container_of(template: Mapping[str, Any]) -> Object:
    (container,) = template["spec"]["containers"]
    return dict(container)


def values_of(container: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
    """A container's environment; what it takes from Secrets is looked up by key."""
    return {
        one["name"]: one["value"] if "value" in one else secrets[one["valueFrom"]["secretKeyRef"]["key"]]
        for one in container["env"]
    }


def write_config_maps(name: str, template: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write the ConfigMaps that a pod mounts as files; return where each mount is, by its path in the container."""
    sources = {volume["name"]: volume.get("configMap") for volume in template["spec"]["volumes"]}
    placed = {}
    for mount in container_of(template)["volumeMounts"]:
        if source := sources.get(mount["name"]):
            place = placed[mount["mountPath"]] = folder / mount["name"]
            place.mkdir(parents=True)
            found = find(name, "ConfigMap", source["name"])
            for key, text in found.get("data", {}).items():
                (place / key).write_text(text)
            for key, data in found.get("binaryData", {}).items():
                (place / key).write_bytes(base64.b64decode(data))
    return placed
