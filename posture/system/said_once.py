"""Warnings that are logged once: what they are about may come again and again, from somebody else's hands."""

from __future__ import annotations

import logging

MOST = 100
"""Different warnings; beyond them none is logged."""


class SaidOnce:
    """Logs the first warning of each kind.

    Args:
        log: where to.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: set[str] = set()

    def warning(self, line: str, kind: str = "") -> None:
        """Log a line, unless one of its kind was logged before.

        Args:
            line: what to say.
            kind: what it is about; empty: this very line.
        """
        key = kind or line
        if key not in self._said and len(self._said) < MOST:
            self._said.add(key)
            self._log.warning("%s", line)

    def forget(self) -> None:
        """Begin anew."""
        self._said.clear()
