"""deploy/ on the test's control plane: objects as files have them, accounts with the rights that they get there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
import yaml
from control_plane import Cluster

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = ROOT / "deploy" / "base"
WITH_TLS = ROOT / "deploy" / "overlays" / "tls"
Right = tuple[str, str, str]
"""Verb, API group and resource."""
REVIEWS = ("create", "authorization.k8s.io", "selfsubjectaccessreviews")
"""Everybody may ask what he may."""


def objects_of(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(path.read_text()) if item]


def send(
    cluster: Cluster,
    manifest: Mapping[str, Any],
    *,
    dry_run: bool = False,
    method: str = "PATCH",
    content: str = "application/apply-patch+yaml",
    manager: str = "test",
) -> str:
    """Apply an object as ``kubectl apply --server-side`` does, strictly; return what speaks against it."""
    group, kind = manifest["apiVersion"], manifest["kind"]
    base = f"{cluster.api_server.url}/{'apis/' if '/' in group else 'api/'}{group}"
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {cluster.api_server.admin_token}"
    session.verify = str(cluster.api_server.ca)
    session.trust_env = False
    known = session.get(base, timeout=30).json()["resources"]
    (resource,) = (one for one in known if one["kind"] == kind and "/" not in one["name"])
    metadata = manifest["metadata"]
    where = f"namespaces/{metadata['namespace']}/" if resource["namespaced"] else ""
    query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
    if "apply" in content:
        query |= {"fieldManager": manager, "force": "true"}
    answer = session.request(
        method,
        f"{base}/{where}{resource['name']}/{metadata['name']}",
        params=query,
        data=json.dumps(manifest),
        headers={"Content-Type": content},
        timeout=30,
    )
    return "" if answer.ok else str(answer.json()["message"])


def account(cluster: Cluster, namespace: str, name: str, path: Path | None = None) -> Path:
    """The kubeconfig of an account with its rights, in a test's namespace.

    Args:
        cluster: where.
        namespace: the test's.
        name: the account's.
        path: which file of deploy/ has it; None: deploy/base/rbac-*.yaml by its name.
    """
    path = path or BASE / f"rbac-{name.removeprefix('posture-')}.yaml"
    text = path.read_text().replace("namespace: posture-farm", f"namespace: {namespace}")
    for item in yaml.safe_load_all(text):
        if item["kind"].startswith("Cluster"):  # one for each test
            item["metadata"]["name"] += f"-{namespace}"
            if "roleRef" in item:
                item["roleRef"]["name"] += f"-{namespace}"
        for rule in item.get("rules", []):
            if rule["resources"] == ["namespaces"]:  # by name, which the Secret has, too
                rule["resourceNames"] = [namespace]
        assert send(cluster, item) == ""
    for rule, where in _rules(path):
        if "resourceNames" in rule:
            continue  # its role has other rules, which come with it
        cluster.await_right(namespace, name, rule, namespace if where == "Role" else None)
    return cluster.kubeconfig_of(namespace, name)


def granted(name: str) -> set[Right]:
    """What deploy/base/rbac-<name>.yaml allows."""
    return {
        (verb, group, resource)
        for rule, _ in _rules(BASE / f"rbac-{name.removeprefix('posture-')}.yaml")
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def _rules(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for item in objects_of(path):
        for rule in item.get("rules", []):
            yield rule, item["kind"]
