"""Resources of a pod and a node, as the Kubernetes scheduler counts them."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from lightkube.utils.quantity import parse_quantity

from posture.kube.objects import Node


def requests_of(pod_spec: Mapping[str, Any]) -> dict[str, float]:
    """Return what the scheduler counts for a pod, resource -> amount: requests, or limits where there are none."""
    total: dict[str, float] = defaultdict(float)
    for container in pod_spec.get("containers") or []:
        resources = container.get("resources") or {}
        for name, amount in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[name] += amount_of(str(amount))
    return dict(total)


def limits_of(pod_spec: Mapping[str, Any]) -> dict[str, float]:
    """Return what a pod may use at most, resource -> amount, as far as its containers say so."""
    total: dict[str, float] = defaultdict(float)
    for container in pod_spec.get("containers") or []:
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            total[name] += amount_of(str(amount))
    return dict(total)


def free_of(node: Node, used: Mapping[str, float]) -> dict[str, float]:
    """Return what is left of a node's allocatable resources.

    Args:
        node: whose.
        used: resource -> what pods on it have requested; resources that are missing are unused.
    """
    return {name: amount_of(amount) - used.get(name, 0.0) for name, amount in node.allocatable.items()}


def fitting(pods: Iterable[Mapping[str, float]], nodes: Iterable[Mapping[str, float]]) -> int:
    """Return how many pods find a place, the largest first and each where most of the processors is free.

    Args:
        pods: what each requests, resource -> amount.
        nodes: what each has free.
    """
    free, placed = [dict(node) for node in nodes], 0
    for pod in sorted(pods, key=lambda one: (one.get("cpu", 0.0), one.get("memory", 0.0)), reverse=True):
        able = [node for node in free if all(node.get(name, 0.0) >= amount for name, amount in pod.items())]
        if able:
            node = max(able, key=lambda one: one.get("cpu", 0.0))
            for name, amount in pod.items():
                node[name] -= amount
            placed += 1
    return placed


@functools.lru_cache(maxsize=4096)
def amount_of(text: str) -> float:
    """Return a quantity of the API as a number; an unreadable one counts as 0."""
    try:
        return float(parse_quantity(text) or 0)
    except ValueError:
        return 0.0
