"""What a figure is read from."""

from __future__ import annotations

from typing import Protocol


class UnreadableError(Exception):
    """A source can't be read now; the message says what was tried."""


class GpuSource(Protocol):
    """How busy a node's GPU is."""

    @property
    def about(self) -> str:
        """What it is read from, for a person."""
        ...

    def read(self) -> float:
        """Return percent, 0 to 100.

        Raises:
            UnreadableError: it can't be read; it may be later.
        """
        ...
