"""Where a stream may go: which nodes could run its pod, and which of them is best."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

from posture.planning.draft import Draft
from posture.planning.model import NodeState, Points, StreamState


class Shelves:
    """Possible destinations: nodes of equal speed share a shelf, sorted with the best first.

    A job costs the same on all nodes of a shelf, so the first one that can take it is the shelf's best. Best is the
    lowest projected average, the largest of a node's signals; it must have room in each of them.
    """

    def __init__(self, draft: Draft, nodes: Iterable[NodeState], *, spread: bool = False) -> None:
        """Sort the nodes by projected average, ties at random.

        Args:
            draft: the plan so far; its moves count in the projected averages.
            nodes: the possible destinations.
            spread: sort by arrivals in this loop first.
        """
        self._draft = draft
        self._spread = spread
        self._shelves: defaultdict[Hashable, list[tuple[int, float, float, str]]] = defaultdict(list)
        self._entries: dict[str, tuple[int, float, float, str]] = {}
        self._hopeless: dict[Hashable, Points] = {}  # kind of pod and limit -> the last work that fitted nowhere
        for node in nodes:
            self._entries[node.name] = self._entry(node)
            self._shelves[self._shelf(node)].append(self._entries[node.name])
        for shelf in self._shelves.values():
            shelf.sort()

    def _shelf(self, node: NodeState) -> Hashable:
        return tuple(sorted((signal, node.speed_in(signal)) for signal in self._draft.signals(node)))

    def _entry(self, node: NodeState) -> tuple[int, float, float, str]:
        draft = self._draft
        arrivals = draft.arrivals[node.name] if self._spread else 0
        return (arrivals, max(draft.projected(node).values()), draft.tie[node.name], node.name)

    def best(self, job: StreamState, limit: float = math.inf) -> NodeState | None:
        """Return the best node that can run the job and stays at or under the limit (in points) with it."""
        draft = self._draft
        work = draft.work(job)
        # headroom and free resources only shrink during a loop: what fitted nowhere need not be tried again
        own = job.node if job.node in self._entries else ""
        closed = sorted(job.history.closed_at(draft.snapshot.now_s))
        alike = (limit, own, job.tolerates, job.barred, *sorted(job.requests.items()), *closed)
        hopeless = self._hopeless.get(alike)
        if hopeless is not None and all(work[signal] >= points for signal, points in hopeless.items()):
            return None
        found = [entry for shelf in self._shelves.values() if (entry := self._first(shelf, job, limit)) is not None]
        if not found:
            self._hopeless[alike] = work
            return None
        return draft.nodes[min(found)[3]]

    def _first(
        self, shelf: Sequence[tuple[int, float, float, str]], job: StreamState, limit: float
    ) -> tuple[int, float, float, str] | None:
        """Return the first node of a shelf that can run the job and has room for it."""
        draft = self._draft
        least = min(draft.cost(job, draft.nodes[shelf[0][3]]).values()) if shelf else 0.0
        for entry in shelf:
            if entry[1] + least > limit:
                if self._spread:
                    continue
                return None  # those that follow are fuller
            node = draft.nodes[entry[3]]
            if node.name == job.node or draft.with_job(job, node) > limit:
                continue
            if eligible(job, node, draft.snapshot.now_s, draft.used.get(node.name)):
                return entry
        return None

    def refresh(self, node: NodeState) -> None:
        """Sort a node in again after a move to it."""
        old = self._entries.get(node.name)
        if old is None:
            return
        shelf = self._shelves[self._shelf(node)]
        del shelf[bisect.bisect_left(shelf, old)]
        self._entries[node.name] = self._entry(node)
        bisect.insort(shelf, self._entries[node.name])


def eligible(job: StreamState, node: NodeState, now_s: float, used: Mapping[str, float] | None = None) -> bool:
    """Say whether the job's pod could run on the node (R7) and may start there (R13).

    Args:
        job: the stream to place.
        node: where.
        now_s: the time now; a node that failed to start the stream is closed to it for a while.
        used: resources on the node that this loop has given away already.
    """
    if not node.ready or node.cordoned or not node.labelled or node.name in job.barred:
        return False
    if not node.taints <= job.tolerates:
        return False
    if node.name in job.history.closed_at(now_s):
        return False
    if node.free is None:
        return True
    used = used or {}
    return all(node.free.get(name, 0.0) - used.get(name, 0.0) >= wanted for name, wanted in job.requests.items())
