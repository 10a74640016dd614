"""Which cluster, and as whom: kubeconfig files as kubectl reads them, or the account of the pod that we run in.

KUBECONFIG may name several files: each name counts as the first file has it, and paths are relative to their file.
Where there is neither KUBECONFIG nor ~/.kube/config, the one that K3s has written on its server counts, as with its
kubectl.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from posture.errors import UserError

DEFAULT = "~/.kube/config"
K3S = Path("/etc/rancher/k3s/k3s.yaml")
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ACCEPTED = "accepted: KUBECONFIG names a readable kubeconfig file, or the script runs in a pod"
PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


@dataclass(frozen=True)
class Target:
    """A context of a kubeconfig, with all paths absolute.

    Attributes:
        where: file and context, for messages.
        cluster: server, certificates, proxy: a kubeconfig's ``cluster``.
        user: a kubeconfig's ``user``.
    """

    where: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]


def find(context: str = "") -> Target:
    """Return what the settings lead to.

    Args:
        context: its name; empty: the account of our pod, else the current context.

    Raises:
        UserError: there is none, or a file is not valid; the message names it.
    """
    if not context and "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").is_file():
        return _in_cluster()
    given = os.environ.get("KUBECONFIG") or (str(K3S) if _only_k3s() else DEFAULT)
    merged = _merge(given)
    name = context or str(merged["current-context"] or "")
    if not name:
        raise UserError(f"kubeconfig {given}: there is no current-context; accepted: one, or kubernetes.context")
    chosen = _entry(merged, "context", name, given)
    cluster = _entry(merged, "cluster", str(chosen.get("cluster") or ""), given)
    if not chosen.get("user"):
        raise UserError(f"kubeconfig {given}: context {name!r} has no user; {ACCEPTED}")
    if not isinstance(cluster.get("server"), str):
        raise UserError(f"kubeconfig {given}: cluster {chosen['cluster']!r} has no server; accepted: its URL")
    return Target(
        f"kubeconfig {given}: context {name!r}", cluster, _entry(merged, "user", str(chosen["user"]), given)
    )


def _only_k3s() -> bool:
    return not Path(DEFAULT).expanduser().is_file() and os.access(K3S, os.R_OK)


def _in_cluster() -> Target:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return Target(
        "this pod's service account",
        {
            "server": f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            "certificate-authority": str(SERVICE_ACCOUNT / "ca.crt"),
        },
        {"tokenFile": str(SERVICE_ACCOUNT / "token")},
    )


def _merge(given: str) -> dict[str, Any]:
    """Return the content of all files as one: what comes first wins."""
    merged: dict[str, Any] = {"current-context": None, "cluster": {}, "user": {}, "context": {}}
    found = False
    for part in given.split(os.pathsep):
        path = Path(part).expanduser()
        if not part or not path.is_file():
            continue
        found = True
        content = _read(path)
        merged["current-context"] = merged["current-context"] or content.get("current-context")
        for kind in ("cluster", "user", "context"):
            for name, entry in _entries(path, content, kind):
                merged[kind].setdefault(name, entry)
    if not found:
        hint = f"; K3s' own: sudo install -D -m 0600 -o $USER {K3S} {DEFAULT}" if K3S.is_file() else ""
        raise UserError(f"no Kubernetes credentials: kubeconfig {given} not found; {ACCEPTED}{hint}")
    return merged


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"kubeconfig {path}: is not valid ({' '.join(str(error).split())}); {ACCEPTED}") from None
    if not isinstance(content, dict):
        raise UserError(f"kubeconfig {path}: is not valid (it holds no fields); {ACCEPTED}")
    return content


def _entries(path: Path, content: Mapping[str, Any], kind: str) -> list[tuple[str, dict[str, Any]]]:
    listed = content.get(f"{kind}s") or []
    if not isinstance(listed, list) or not all(isinstance(one, dict) and "name" in one for one in listed):
        raise UserError(f"kubeconfig {path}: {kind}s: is not valid; accepted: a list of entries with a name each")
    found = []
    for one in listed:
        fields = one.get(kind) or {}
        if not isinstance(fields, dict):
            raise UserError(f"kubeconfig {path}: {kind} {one['name']!r}: is not valid; accepted: fields")
        found.append((str(one["name"]), _absolute(fields, path.parent)))
    return found


def _absolute(fields: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a copy whose paths don't depend on the folder that we run in."""
    absolute = {
        key: str(folder / Path(value).expanduser()) if key in PATHS and isinstance(value, str) and value else value
        for key, value in fields.items()
    }
    program = absolute.get("exec")
    # a bare name is looked for in PATH
    if isinstance(program, dict) and os.sep in str(program.get("command") or ""):
        absolute["exec"] = {**program, "command": str(folder / str(program["command"]))}
    return absolute


def _entry(merged: Mapping[str, Any], kind: str, name: str, given: str) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = merged[kind]
    if name not in entries:
        known = ", ".join(sorted(entries)) or f"none, the file has no {kind}s"
        raise UserError(f"kubeconfig {given}: {kind} {name!r} not found; accepted: {known}")
    return entries[name]
