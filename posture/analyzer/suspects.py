"""Frames that ended processes on other nodes: a pod's folder ends with it, what the broker retains does not.

Which frames may have ended a process the broker knows by itself: those that it delivers a second time. Before one
of them is opened, alone, its digest is left at the broker, and it is taken away afterwards. Who finds one there
knows that it ended the process that left it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from posture.analyzer.delivery import Acknowledger
from posture.errors import UserError
from posture.wire.suspects import BrokenSuspectsError, Remembered

log = logging.getLogger(__name__)

ALONE = 2
"""It counts so much against a frame that a process ended over it of which nothing else is known. Whether it crashed
or was killed nobody can say, but it had only this frame in hand."""


class Suspects:
    """What the broker remembers of a stream's frames. Nothing is asked or said until there is a suspect.

    Where the broker does not take part, this process goes on without.

    Args:
        stream: reads and writes what the broker retains.
        topic: where.
        process: this process: 64 random bits in hex.
        counted_here: processes of which the folder of this one knows how they ended, or that they live.
    """

    def __init__(self, stream: Acknowledger, topic: str, process: str, counted_here: Collection[str]) -> None:
        self._stream = stream
        self._topic = topic
        self._process = process
        self._counted_here = counted_here
        self._counts: dict[str, int] | None = None
        self._without = False
        self._open = ""

    def count(self, digest: str, *, ask: bool) -> int:
        """Return what counts against a frame, as far as it is known.

        Args:
            digest: of its bytes, SHA-256 in hex.
            ask: the broker, unless it was asked before.
        """
        if ask and self._counts is None:
            self._counts = self._ask()
        return (self._counts or {}).get(digest, 0)

    def opens(self, digest: str) -> None:
        """Return once the broker knows that this frame is opened next, and nothing beside it."""
        self._open = digest
        self._leave()

    def survived(self, digest: str) -> None:
        """Say that the process lives on after a frame that it opened."""
        if self._open == digest:
            self._open = ""
            if self._counts is not None:
                self._counts.pop(digest, None)
            self._leave()

    def _ask(self) -> dict[str, int]:
        try:
            found = Remembered.parse(self._stream.retained(self._topic))
        except (OSError, UserError) as error:
            self._do_without(error)
            return {}
        except BrokenSuspectsError as error:
            log.warning("what is on %s counts against no frame: %s", self._topic, error)
            return {}
        counts = dict(found.counts)
        if found.frame and found.process not in self._counted_here:
            # those of which something became known last are forgotten last
            counts[found.frame] = counts.pop(found.frame, 0) + ALONE
            log.warning("frame with SHA-256 %s was being worked on when a process elsewhere ended", found.frame)
        return counts

    def _leave(self) -> None:
        if self._without:
            return
        try:
            self._stream.retain(self._topic, Remembered(self._process, self._open, self._counts or {}).as_bytes())
        except (OSError, UserError) as error:
            self._do_without(error)

    def _do_without(self, error: Exception) -> None:
        self._without = True
        log.warning(
            "%s can't be read and written: %s; a frame that ends this process is not known to the next one on "
            "another node (may user suspects.<pi_id> do so? docs/broker.md)",
            self._topic,
            error,
        )
