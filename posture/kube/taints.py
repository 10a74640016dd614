"""Taints of nodes and tolerations of pods, as the Kubernetes scheduler compares them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from posture.kube.objects import Node


def master_key(farm: str) -> str:
    """Return the key of the taint that keeps a farm's streams off its master."""
    return f"{farm}.posture-farm/master"


def taint_texts(node: Node) -> list[str]:
    """Return a node's taints as kubectl writes them, ``key=value:effect``."""
    return [f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in node.taints]


def tolerates(tolerations: Sequence[Mapping[str, Any]], taint: str) -> bool:
    """Say whether a pod may stay on a node with this taint for good.

    Args:
        tolerations: the pod's; one with ``tolerationSeconds`` does not count.
        taint: as ``key=value:effect``.
    """
    key, _, rest = taint.partition("=")
    value, _, effect = rest.rpartition(":")
    return any(
        item.get("effect") in {None, "", effect}
        and item.get("tolerationSeconds") is None
        and (
            (item.get("operator") == "Exists" and item.get("key") in {None, "", key})
            or (
                item.get("operator") in {None, "Equal"}
                and item.get("key") == key
                and item.get("value", "") == value
            )
        )
        for item in tolerations
    )
