"""Where a stream may go: which nodes could run its pod, and which of them is best."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from posture.planning.draft import Draft
from posture.planning.model import NodeState, StreamState


class Shelves:
    """Possible destinations: nodes of equal speed share a shelf, sorted with the best first.

    A job costs the same on all nodes of a shelf, so the first one that can take it is the shelf's best.
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
        self._shelves: defaultdict[float, list[tuple[int, float, float, str]]] = defaultdict(list)
        self._entries: dict[str, tuple[int, float, float, str]] = {}
        self._hopeless: dict[Hashable, float] = {}  # kind of pod and limit -> smallest work that fitted nowhere
        for node in nodes:
            self._entries[node.name] = self._entry(node)
            self._shelves[node.speed].append(self._entries[node.name])
        for shelf in self._shelves.values():
            shelf.sort()

    def _entry(self, node: NodeState) -> tuple[int, float, float, str]:
        draft = self._draft
        arrivals = draft.arrivals[node.name] if self._spread else 0
        return (arrivals, draft.projected(node), draft.tie[node.name], node.name)

    def best(self, job: StreamState, limit: float = math.inf) -> NodeState | None:
        """Return the best node that can run the job and stays at or under the limit (in points) with it."""
        draft = self._draft
        work = draft.work(job)
        # headroom and free resources only shrink during a loop: what fitted nowhere need not be tried again
        own = job.node if job.node in self._entries else ""
        alike = (limit, own, job.tolerates, job.barred, *sorted(job.requests.items()), *job.history.closed)
        if work >= self._hopeless.get(alike, math.inf):
            return None
        found = []
        for speed, shelf in self._shelves.items():
            cost = work / speed
            for entry in shelf:
                if entry[1] + cost > limit:
                    if self._spread:
                        continue
                    break
                node = draft.nodes[entry[3]]
                if node.name != job.node and eligible(job, node, draft.snapshot.now_s, draft.used.get(node.name)):
                    found.append(entry)
                    break
        if not found:
            self._hopeless[alike] = work
            return None
        return draft.nodes[min(found)[3]]

    def refresh(self, node: NodeState) -> None:
        """Sort a node in again after a move to it."""
        old = self._entries.get(node.name)
        if old is None:
            return
        shelf = self._shelves[node.speed]
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
    if node.name in job.history.closed and job.history.closed[node.name][0] > now_s:
        return False
    if node.free is None:
        return True
    used = used or {}
    return all(node.free.get(name, 0.0) - used.get(name, 0.0) >= wanted for name, wanted in job.requests.items())
