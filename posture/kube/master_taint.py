"""The taint that keeps analyzers off the master. Its key has the farm's name: each farm takes only its own off."""

from __future__ import annotations

from collections.abc import Callable

from posture.kube import errors, kinds
from posture.kube.client import KubeClient, Object
from posture.kube.taints import master_key

EFFECT = "NoSchedule"
ATTEMPTS = 5


def is_tainted(node: Object, farm: str) -> bool:
    """Return whether a node has this farm's taint."""
    return any(taint["key"] == master_key(farm) for taint in _taints(node))


def add(cluster: KubeClient, name: str, farm: str) -> bool:
    """Taint a node; whatever other taints it has stay.

    Returns:
        Whether it was not tainted already.

    Raises:
        KubeError: the API server did not do it.
    """
    ours = {"key": master_key(farm), "value": "true", "effect": EFFECT}
    return _change(cluster, name, lambda taints: [*_without(taints, farm), ours])


def remove(cluster: KubeClient, name: str, farm: str) -> bool:
    """Take this farm's taint, and no other, off a node.

    Returns:
        Whether it had it.

    Raises:
        KubeError: the API server did not do it.
    """
    return _change(cluster, name, lambda taints: _without(taints, farm))


def _change(cluster: KubeClient, name: str, change: Callable[[list[Object]], list[Object]]) -> bool:
    """Change the list of taints if nobody has changed it since it was read; otherwise read it again."""
    for attempt in range(1, ATTEMPTS + 1):
        before = _taints(cluster.get(kinds.NODE, name))
        after = change(before)
        if after == before:
            return False
        test = {"op": "test", "path": "/spec/taints", "value": before or None}
        edit = {"op": "add", "value": after} if after else {"op": "remove"}
        try:
            cluster.patch(kinds.NODE, name, [test, {**edit, "path": "/spec/taints"}])
        except errors.ConflictError:
            if attempt == ATTEMPTS:
                raise
        else:
            return True
    return False


def _taints(node: Object) -> list[Object]:
    return list(node.get("spec", {}).get("taints") or [])


def _without(taints: list[Object], farm: str) -> list[Object]:
    return [taint for taint in taints if taint["key"] != master_key(farm)]
