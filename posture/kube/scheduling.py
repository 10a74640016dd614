"""A pod and a node as the Kubernetes scheduler weighs them: taints and tolerations, requests and free resources."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from posture.kube.objects import Node


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


def requests_of(pod_spec: Mapping[str, Any]) -> dict[str, float]:
    """Return what the scheduler counts for a pod, resource -> amount: requests, or limits where there are none."""
    total: dict[str, float] = defaultdict(float)
    for container in pod_spec.get("containers") or []:
        resources = container.get("resources") or {}
        for name, amount in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[name] += _quantity(str(amount))
    return dict(total)


def free_of(node: Node, used: Mapping[str, float]) -> dict[str, float]:
    """Return what is left of a node's allocatable resources.

    Args:
        node: whose.
        used: resource -> what pods on it have requested; resources that are missing are unused.
    """
    return {name: _quantity(amount) - used.get(name, 0.0) for name, amount in node.allocatable.items()}


@functools.lru_cache(maxsize=4096)
def _quantity(text: str) -> float:
    """Return a quantity of the API as a number; an unreadable one counts as 0."""
    from lightkube.utils.quantity import parse_quantity  # noqa: PLC0415 - 0.1 s; patch_scaledjob.py needs none

    try:
        return float(parse_quantity(text) or 0)
    except ValueError:
        return 0.0
