"""A part of the settings while a program runs: it is read anew when the file has been edited."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from posture.errors import UserError

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class Edited(Generic[Value]):
    """Reads a part of the settings anew when their file was edited; one with mistakes changes nothing, and is told.

    Args:
        what: the part, for the log.
        path: the file.
        read: reads the settings as the program did at its start.
        value: what it read then.
    """

    def __init__(self, what: str, path: Path, read: Callable[[], Value], value: Value) -> None:
        self.what = what
        self.path = path
        self._read = read
        self._value = value
        self._seen = self._stamp()

    def __call__(self) -> Value:
        """Return the value as the file says now."""
        stamp = self._stamp()
        if stamp == self._seen:
            return self._value
        self._seen = stamp
        try:
            value = self._read()
        except UserError as error:
            log.error("%s stay as they were: %s", self.what, "; ".join(str(error).splitlines()))
            return self._value
        if value != self._value and self.accepts(self._value, value):
            self._value = value
        return self._value

    def accepts(self, before: Value, now: Value) -> bool:
        """Say whether a new value is taken up, and tell of it."""
        del before, now
        log.info("%s are read anew from %s", self.what, self.path)
        return True

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size
