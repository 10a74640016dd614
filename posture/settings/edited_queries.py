"""GPU_QUERIES while a program runs: nodes that are added, changed or removed are taken up, and their signals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from posture.errors import UserError
from posture.settings.table import NodeQuery

log = logging.getLogger(__name__)


class EditedQueries:
    """Reads GPU_QUERIES anew when their file has changed. A file with mistakes changes nothing, and is told once.

    Args:
        path: the file.
        read: reads the settings as the program did at its start.
        queries: what it read then.
    """

    def __init__(
        self, path: Path, read: Callable[[], Mapping[str, NodeQuery]], queries: Mapping[str, NodeQuery]
    ) -> None:
        self._path = path
        self._read = read
        self._queries = queries
        self._seen = self._stamp()

    def __call__(self) -> Mapping[str, NodeQuery]:
        """Return node -> where its usage is read, as the file says now."""
        stamp = self._stamp()
        if stamp == self._seen:
            return self._queries
        self._seen = stamp
        try:
            queries = self._read()
        except UserError as error:
            log.error("GPU_QUERIES stay as they were: %s", "; ".join(str(error).splitlines()))
            return self._queries
        if not queries:
            log.error("GPU_QUERIES stay as they were: %s names no node", self._path)
        elif queries != self._queries:
            log.info("GPU_QUERIES: %s", _changes(self._queries, queries))
            self._queries = queries
        return self._queries

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size


def _changes(before: Mapping[str, NodeQuery], now: Mapping[str, NodeQuery]) -> str:
    changed = {node for node in before.keys() & now.keys() if before[node] != now[node]}
    kinds = {"added": now.keys() - before.keys(), "changed": changed, "removed": before.keys() - now.keys()}
    return ", ".join(f"{kind} {', '.join(sorted(nodes))}" for kind, nodes in kinds.items() if nodes)
