"""The annotations of a ScaledJob that the farm reads and writes, and the JSON Patch that sets them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAUSED = "autoscaling.keda.sh/paused"
"""KEDA's; ``"true"``: KEDA creates no Jobs."""

MOVE = "posture-farm/move"
"""The balancer's, while a move of the stream is open: the move as JSON."""

HISTORY = "posture-farm/history"
"""The balancer's: what it has to remember of the stream after a restart, as JSON."""

MOVES = "posture-farm/moves"
"""The balancer's, for people: the stream's last moves with their reasons, as JSON."""

STATE = "posture-farm/state"
"""The balancer's, for people: whether the stream runs, or why not."""

PINNED = "posture-farm/pinned"
"""The operator's; ``"true"``: the stream is never moved."""

GPU = "posture-farm/gpu"
"""patch_scaledjob.py's: what it has written into the pod for ``kubernetes.gpu``, names with spaces between them."""

HOST_FOLDERS = "posture-farm/host-folders"
"""patch_scaledjob.py's: the volumes that it has laid on the node for ``kubernetes.pictures_host_path``."""
REQUESTS = "posture-farm/requests"
"""patch_scaledjob.py's: the resources whose requests it has written, names with spaces between them."""

ENVIRONMENT = "posture-farm/environment"
"""patch_scaledjob.py's: the variables that it has written for the settings, names with spaces between them."""

CLEARED = "posture-farm/cleared"
"""build_and_push.py's, on a paused ScaledJob whose stream is being taken down: its retained topics are cleared."""

ALL_PATH = "/metadata/annotations"
"""JSON Pointer to all annotations of an object."""


def is_pinned(present: Mapping[str, str] | None) -> bool:
    """Return whether an object's annotations, None if it has none, pin its stream."""
    return str((present or {}).get(PINNED, "")).lower() not in {"", "false", "no"}


def path_of(name: str) -> str:
    """Return the JSON Pointer to one annotation."""
    return f"{ALL_PATH}/" + name.replace("~", "~0").replace("/", "~1")


def same_object(uid: str) -> dict[str, Any]:
    """Return the operation of a JSON Patch that fails if the name is another object's by now."""
    return {"op": "test", "path": "/metadata/uid", "value": uid}


def set_operations(present: Mapping[str, str] | None, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the operations of a JSON Patch that set annotations and leave all others as they are.

    Args:
        present: the object's annotations as last read; None if it has none. In that case the patch fails if an
            annotation has been added in the meantime.
        values: name -> value.
    """
    if present is not None:
        return [{"op": "add", "path": path_of(name), "value": value} for name, value in values.items()]
    return [
        {"op": "test", "path": ALL_PATH, "value": None},
        {"op": "add", "path": ALL_PATH, "value": dict(values)},
    ]


def remove_operation(name: str) -> dict[str, Any]:
    """Return the operation of a JSON Patch that removes an annotation; the patch fails if it is not there."""
    return {"op": "remove", "path": path_of(name)}
