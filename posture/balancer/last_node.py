"""``last_node.txt``: the last chosen destination and when it was chosen, for the next start of the balancer."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path

from posture.system import files

log = logging.getLogger(__name__)


def write(path: Path, node: str, at_s: float) -> None:
    """Replace the file atomically; a file that can't be written only gives a warning.

    Args:
        path: the file.
        node: the destination.
        at_s: when it was chosen, in seconds since 1970.
    """
    stamp = datetime.datetime.fromtimestamp(at_s, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        files.replace(path, f"{node} {stamp}\n".encode())
    except OSError as error:
        log.warning("%s can't be written: %s", path, error.strerror)


def read(path: Path) -> tuple[str, float] | None:
    """Return the node and when it was chosen, in seconds since 1970; None if there is no such file."""
    try:
        node, stamp = path.read_text(encoding="utf-8").split()
        return node, datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    except (OSError, ValueError):
        return None
