"""What a loop remembers for the next one: jobs' loads, nodes' speeds, spoiled windows, cooldowns. Pure.

The balancer and the simulator keep one :class:`Ledger` each and tell it what happened; it answers with the
histories that :mod:`posture.planner` plans with. A stream's history also survives in an annotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from posture.fleet import Move, NodeHistory, Rules, StreamHistory


class Ledger:
    """The memory of one balancer.

    Order of calls in each loop: :meth:`change_begins` and :meth:`change_ends` whenever they happen,
    :meth:`window` when a window is complete, then a plan, then :meth:`moved` for each move that was begun and
    :meth:`start_failed` where R13 moved a stream on.
    """

    def __init__(self, rules: Rules, classes: Mapping[str, str] | None = None) -> None:
        """Start without any memory.

        Args:
            rules: the plan's rules.
            classes: node -> the name of its class of hardware; nodes of one class are equally fast.
        """
        raise NotImplementedError

    def change_begins(self, stream: str, *nodes: str) -> None:
        """Note that a job of ours starts, stops or moves on these nodes: their windows are spoiled (R5)."""
        raise NotImplementedError

    def change_ends(self, stream: str, settled_s: float) -> None:
        """Note when the change settles: pod Ready (or gone) + warm-up + one scrape, in seconds (R5)."""
        raise NotImplementedError

    def window(self, start_s: float, end_s: float, usage: Mapping[str, float | None]) -> None:
        """Take the averages of a complete window: learn from finished moves, count spoiled and hot windows."""
        raise NotImplementedError

    def moved(self, move: Move, now_s: float) -> None:
        """Note that a move was begun; its nodes' windows are spoiled until :meth:`change_ends`."""
        raise NotImplementedError

    def node(self, name: str) -> NodeHistory:
        """Return what is remembered about a node."""
        raise NotImplementedError

    def speed(self, name: str) -> float:
        """Return a node's learned speed relative to the first class; 1 where nothing is known (R8)."""
        raise NotImplementedError

    def stream(self, name: str) -> StreamHistory:
        """Return what is remembered about a stream."""
        raise NotImplementedError

    def restore(self, name: str, history: StreamHistory) -> None:
        """Take a stream's history from its annotation, unless something newer is remembered."""
        raise NotImplementedError


def history_to_json(history: StreamHistory) -> dict[str, Any]:
    """Return a history as plain JSON values, for the annotation."""
    raise NotImplementedError


def history_from_json(value: Any) -> StreamHistory:
    """Return the history of an annotation; whatever isn't one there counts as no history at all."""
    raise NotImplementedError
