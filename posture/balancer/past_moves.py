"""A stream's last moves with their reasons, as they stand in an annotation: they outlive the Events. Pure."""

from __future__ import annotations

import datetime
import json
from typing import Any

from posture.balancer.open_move import OpenMove
from posture.kube.objects import seconds

KEPT = 10
"""So many moves are kept, the last ones."""

LONGEST_WHY = 200


def with_begun(text: str, opened: OpenMove) -> str:
    """Return the annotation's value with one more move.

    Args:
        text: its value so far; what is no list of moves begins anew.
        opened: the move.
    """
    move = opened.move
    entry = {
        "at": _stamp(opened.began_s),
        "kind": move.kind.value,
        "from": move.source,
        "to": move.destination,
        "why": move.why[:LONGEST_WHY],
    }
    return json.dumps([*_moves(text), entry][-KEPT:])


def with_ended(text: str, ready_s: float) -> str:
    """Return the annotation's value with the time at which the last move was finished, seconds since 1970."""
    moves = _moves(text)
    if moves:
        moves[-1]["ready_at"] = _stamp(ready_s)
    return json.dumps(moves)


def began_s(text: str, created_s: float) -> float | None:
    """Return when the last move began, if it is the one that a pod was made for; else None.

    Args:
        text: the annotation's value.
        created_s: when the pod was made, in seconds since 1970.
    """
    last = (_moves(text) or [{}])[-1]
    try:
        at_s, ready_at_s = seconds(last["at"]), seconds(last["ready_at"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # not finished, or edited by hand
    return at_s if at_s is not None and ready_at_s is not None and at_s <= created_s <= ready_at_s else None


def _moves(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) and all(isinstance(entry, dict) for entry in found) else []


def _stamp(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
