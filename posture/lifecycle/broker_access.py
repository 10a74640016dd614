"""What the broker in the cluster knows of its users: Secret ``posture-mqtt``, as broker_identities.py makes it.

Mosquitto reads passwords and access list when it starts. So a change is followed by the annotation of the pods that
lets Kubernetes replace them; sessions and retained messages are on their volume.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping

from posture.kube import errors, kinds, labels
from posture.kube.annotations import same_object
from posture.kube.client import KubeClient
from posture.wire.identities import without_users

NAME = "posture-mqtt"
"""Of the Secret, and of the StatefulSet that mounts it."""
KEYS = ("passwords", "acl")
CHECKSUM = "posture-farm/identities"
"""Annotation of the broker's pods."""


def withdraw(cluster: KubeClient, farm: str, users: Collection[str]) -> bool:
    """Take users away from the broker in the cluster.

    Args:
        cluster: where; a broker may as well be elsewhere.
        farm: whose broker it must be.
        users: their names at the broker.

    Returns:
        Whether there is such a broker. A second time nothing changes.

    Raises:
        KubeError: the API server did not do it.
    """
    try:
        secret = cluster.get(kinds.SECRET, NAME)
    except errors.NotFoundError:
        return False
    if (secret["metadata"].get("labels") or {}).get(labels.FARM) != farm:
        return False
    data: dict[str, str] = secret.get("data") or {}
    wanted = {key: _encoded(without_users(_decoded(data[key]), users)) for key in KEYS if key in data}
    changed = {key: value for key, value in wanted.items() if value != data[key]}
    if changed:
        edits = [{"op": "replace", "path": f"/data/{key}", "value": value} for key, value in changed.items()]
        cluster.patch(kinds.SECRET, NAME, [same_object(secret["metadata"]["uid"]), *edits])
    restart(cluster, {**data, **wanted})
    return True


def digest(data: Mapping[str, str], keys: Collection[str]) -> str:
    """Return what tells whether some keys of a Secret's data are as they were when pods were made."""
    return hashlib.sha256("".join(f"{key}:{data.get(key, '')};" for key in keys).encode()).hexdigest()[:16]


def restart(cluster: KubeClient, data: Mapping[str, str]) -> None:
    """Let the broker's pod be replaced if it was made with other users than these.

    Args:
        cluster: where.
        data: the Secret's, in base64.

    Raises:
        KubeError: the API server did not do it.
    """
    try:
        live = cluster.get(kinds.STATEFUL_SET, NAME)
    except errors.NotFoundError:
        return
    body = {
        "apiVersion": kinds.STATEFUL_SET.api,
        "kind": kinds.STATEFUL_SET.name,
        "metadata": {"name": NAME, "namespace": cluster.namespace, "uid": live["metadata"]["uid"]},
        "spec": {"template": {"metadata": {"annotations": {CHECKSUM: digest(data, KEYS)}}}},
    }
    cluster.apply(kinds.STATEFUL_SET, NAME, body, force=True, manager=CHECKSUM.replace("/", "-"))


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise errors.KubeError(f"secret {NAME}: is not as broker_identities.py makes it: {error}") from None


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
