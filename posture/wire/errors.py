"""What can be wrong with bytes that came over the wire."""

from __future__ import annotations


class UndecodableError(Exception):
    """The payload is not a picture that is accepted. ``reason`` is a short snake_case word for the row."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
