"""Permissions of a script's account. Checked first, so that no operation stops half-way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from posture.kube.client import KubeClient
from posture.kube.kinds import Kind

ACCESS_REVIEW = Kind("SelfSubjectAccessReview", "authorization.k8s.io/v1", "selfsubjectaccessreviews", False)

Right = tuple[Kind, str]
"""A kind and an RBAC verb."""


def missing(cluster: KubeClient, needed: Iterable[Right]) -> Sequence[str]:
    """Return a line for each right that the account lacks.

    Raises:
        KubeError: the API server does not answer.
    """
    return [
        f"the role lacks verb {verb!r} on resource {str(kind)!r}"
        + (f" in {cluster.namespace}" if kind.namespaced else "")
        for kind, verb in needed
        if not _may(cluster, kind, verb)
    ]


def _may(cluster: KubeClient, kind: Kind, verb: str) -> bool:
    attributes = {"verb": verb, "resource": kind.plural, "group": kind.api.rpartition("/")[0]}
    if kind.namespaced:
        attributes["namespace"] = cluster.namespace
    review = {
        "apiVersion": ACCESS_REVIEW.api,
        "kind": ACCESS_REVIEW.name,
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
    }
    return bool((cluster.create(ACCESS_REVIEW, review).get("status") or {}).get("allowed"))
