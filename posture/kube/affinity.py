"""The node that a pod must run on, as its affinity says it. Pure.

``nodeSelectorTerms`` are ORed, and the expressions in one term are ANDed: so the requirement ``gpu-node in
[node]`` has to stand in each term, or another term would let the pod go elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

NODE_LABEL = "gpu-node"
"""Label of a node that analyzers may run on; its value is the node's name in GPU_QUERIES."""

HOST_LABEL = "kubernetes.io/hostname"
"""Label of every node; its value is as a rule the node's name."""

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def with_node(affinity: dict[str, Any] | None, node: str) -> dict[str, Any]:
    """Return a copy of a pod's affinity that requires this node, and keeps everything else that it asks for."""
    return _requiring(affinity, {"key": NODE_LABEL, "operator": "In", "values": [node]})


def with_any_node(affinity: dict[str, Any] | None) -> dict[str, Any]:
    """Return a copy that takes any node that analyzers may run on, and keeps everything else that it asks for."""
    return _requiring(affinity, {"key": NODE_LABEL, "operator": "Exists"})


def _requiring(affinity: dict[str, Any] | None, requirement: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(affinity) or {}
    required = result.setdefault("nodeAffinity", {}).setdefault(_REQUIRED, {})
    terms = required.get("nodeSelectorTerms") or [{}]
    required["nodeSelectorTerms"] = [_with_requirement(term, requirement) for term in terms]
    return result


def _with_requirement(term: dict[str, Any], requirement: dict[str, Any]) -> dict[str, Any]:
    """Return the term with the requirement in the place of those that name the same label."""
    others = [item for item in term.get("matchExpressions") or [] if item.get("key") != NODE_LABEL]
    return term | {"matchExpressions": [*others, requirement]}


def node_of(affinity: dict[str, Any] | None) -> str | None:
    """Return the one node that an affinity requires; None if several are possible."""
    terms = _terms(affinity)
    named = {_node_of_term(term) for term in terms}
    return named.pop() if len(named) == 1 else None


def nodes_named(affinity: dict[str, Any] | None) -> list[str]:
    """Return all nodes that an affinity names by their label, in its order."""
    expressions = [item for term in _terms(affinity) for item in term.get("matchExpressions") or []]
    named = [
        str(value)
        for item in expressions
        if item.get("key") == NODE_LABEL and item.get("operator") == "In"
        for value in item.get("values") or []
    ]
    return list(dict.fromkeys(named))


def _node_of_term(term: dict[str, Any]) -> str | None:
    for item in term.get("matchExpressions") or []:
        if item.get("key") == NODE_LABEL and item.get("operator") == "In" and len(item.get("values") or []) == 1:
            return str(item["values"][0])
    return None


def names_node(part: str, item: Mapping[str, Any]) -> bool:
    """Return whether a requirement of a term is about the node's name, by another way than ``gpu-node``.

    Args:
        part: where in its term it stands: ``matchExpressions``, or ``matchFields``, which know only the name.
        item: the requirement.
    """
    return part == "matchFields" or item.get("key") == HOST_LABEL


def excludes(affinity: dict[str, Any] | None, node: str) -> bool:
    """Return whether each term keeps the pod off the node of this name."""
    terms = _terms(affinity)
    return bool(terms) and all(_term_excludes(term, node) for term in terms)


def _term_excludes(term: dict[str, Any], node: str) -> bool:
    return any(
        item.get("operator") == "NotIn" and node in (item.get("values") or []) and names_node(part, item)
        for part in ("matchExpressions", "matchFields")
        for item in term.get(part) or []
    )


def allows(
    affinity: dict[str, Any] | None, node_selector: dict[str, str] | None, labels: dict[str, str], host: str
) -> bool:
    """Return whether a node qualifies, leaving aside the requirement for ``gpu-node``.

    Args:
        affinity: the pod's.
        node_selector: the pod's.
        labels: the node's.
        host: the node's name.
    """
    if any(labels.get(key) != value for key, value in (node_selector or {}).items()):
        return False
    terms = _terms(affinity)
    return not terms or any(_term_allows(term, labels, host) for term in terms)


def _term_allows(term: dict[str, Any], labels: dict[str, str], host: str) -> bool:
    expressions = [item for item in term.get("matchExpressions") or [] if item.get("key") != NODE_LABEL]
    fields = term.get("matchFields") or []
    # the one field that Kubernetes knows here is metadata.name
    return all(_expression_allows(item, labels) for item in expressions) and all(
        _expression_allows(item, {"metadata.name": host}) for item in fields
    )


def _expression_allows(item: dict[str, Any], labels: dict[str, str]) -> bool:
    key, operator, values = str(item.get("key")), item.get("operator"), item.get("values") or []
    value = labels.get(key)
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    try:
        number, limit = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > limit if operator == "Gt" else number < limit


def _terms(affinity: dict[str, Any] | None) -> list[dict[str, Any]]:
    required = ((affinity or {}).get("nodeAffinity") or {}).get(_REQUIRED) or {}
    return required.get("nodeSelectorTerms") or []
