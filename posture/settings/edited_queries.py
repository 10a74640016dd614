"""GPU_QUERIES while a program runs: nodes that are added, changed or removed are taken up, and their signals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from posture.natural_order import natural
from posture.settings.edited import Edited
from posture.settings.table import NodeQuery

log = logging.getLogger(__name__)

Queries = Mapping[str, NodeQuery]
"""Node -> where its usage is read."""


class EditedQueries(Edited[Queries]):
    """Reads GPU_QUERIES anew when their file has changed; one that names no node changes nothing either.

    Args:
        path: the file.
        read: reads the settings as the program did at its start.
        queries: what it read then.
    """

    def __init__(self, path: Path, read: Callable[[], Queries], queries: Queries) -> None:
        super().__init__("GPU_QUERIES", path, read, queries)

    def accepts(self, before: Queries, now: Queries) -> bool:
        """Refuse an empty map, and tell what is new."""
        if not now:
            log.error("GPU_QUERIES stay as they were: %s names no node", self.path)
            return False
        log.info("GPU_QUERIES: %s", _changes(before, now))
        return True


def _changes(before: Queries, now: Queries) -> str:
    changed = {node for node in before.keys() & now.keys() if before[node] != now[node]}
    kinds = {"added": now.keys() - before.keys(), "changed": changed, "removed": before.keys() - now.keys()}
    return ", ".join(f"{kind} {', '.join(sorted(nodes, key=natural))}" for kind, nodes in kinds.items() if nodes)
