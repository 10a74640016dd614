"""Whose an object is: farms may share a namespace, and none writes what is another's.

A name carries its farm, so that two farms don't want the same one. Where they do all the same, the request itself
is refused, not only the plan: what is there is written on condition that it is still the object whose owner was
read, and what is not there is applied without force, so that an owner's label of another value is a conflict.
"""

from __future__ import annotations

import copy

from posture.kube import labels
from posture.kube.client import FIELD_MANAGER, KubeClient, Object
from posture.kube.errors import ConflictError, KubeError, NotFoundError
from posture.kube.kinds import Kind
from posture.kube.objects import name_of

DEFAULT_FARM = "default"
ATTEMPTS = 5


class ForeignError(KubeError):
    """An object of this name is there, and is not this farm's."""


def named_for(name: str, farm: str) -> str:
    """Return an object's name as a farm has it: the default farm's is left as it is."""
    return name if farm == DEFAULT_FARM else f"{name}-{farm}"


def check(kind: Kind, live: Object, farm: str) -> None:
    """Refuse an object that is not a farm's.

    Raises:
        ForeignError: it is another farm's, or nobody's that we know; the message names the owner.
    """
    metadata = live["metadata"]
    owner = (metadata.get("labels") or {}).get(labels.FARM)
    if owner == farm:
        return
    where = f" in namespace {metadata['namespace']}" if "namespace" in metadata else ""
    whose = f"farm {owner}'s" if owner else f"no farm's (it was made by {_maker(live)})"
    raise ForeignError(f"{kind.name.lower()} {name_of(live)}{where} is {whose}, not farm {farm}'s")


def apply(cluster: KubeClient, kind: Kind, body: Object, farm: str) -> Object:
    """Create or change an object of a farm by server-side apply.

    Args:
        cluster: where.
        kind: its kind.
        body: the object, with the farm's label.
        farm: whose it is.

    Returns:
        The object as it is now.

    Raises:
        ForeignError: one of that name is not this farm's; it is as it was.
        ConflictError: somebody else changed it at each attempt.
        KubeError: the API server did not take it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return apply_to(cluster, kind, body, find(cluster, kind, name_of(body), farm), farm)
        except ConflictError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def find(cluster: KubeClient, kind: Kind, name: str, farm: str) -> Object | None:
    """Return a farm's object; None if there is none of that name.

    Raises:
        ForeignError: it is not this farm's.
        KubeError: the API server did not answer.
    """
    try:
        live = cluster.get(kind, name)
    except NotFoundError:
        return None
    check(kind, live, farm)
    return live


def apply_to(cluster: KubeClient, kind: Kind, body: Object, live: Object | None, farm: str) -> Object:
    """Apply an object over what :func:`find` has found, and over nothing else.

    Raises:
        ConflictError: there is another object by now, or this one was changed; nothing was written.
        KubeError: the API server did not take it.
    """
    manager = named_for(FIELD_MANAGER, farm)
    if live is None:
        return cluster.apply(kind, name_of(body), body, manager=manager)
    body = copy.deepcopy(body)
    body["metadata"].update({key: live["metadata"][key] for key in ("uid", "resourceVersion")})
    return cluster.apply(kind, name_of(body), body, force=True, manager=manager)


def _maker(live: Object) -> str:
    managers = [entry.get("manager", "") for entry in live["metadata"].get("managedFields") or []]
    return next((manager for manager in managers if manager), "somebody else")
