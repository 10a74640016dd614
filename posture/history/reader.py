"""What History asks of a database. The answers are the same for SQLite, PostgreSQL and Supabase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from posture.history.minutes import Minute
from posture.store.base import COLUMNS

StoredRow: TypeAlias = Mapping[str, Any]
"""A row by column, as ``posture.store.base.Row`` says. Times are in UTC or None; rows of the first deployments
lack what came later. Only a frame that is asked for by its id has its ``landmarks``."""
LISTED = tuple(name for name in COLUMNS if name != "landmarks")
"""Columns of rows that are asked for by time: the landmarks are most of a row's bytes."""


@dataclass(frozen=True)
class StreamSpan:
    """A stream that has rows.

    Attributes:
        pi_id: its name, as the rows have it: any text.
        first: its first minute.
        last: its last minute.
    """

    pi_id: str
    first: datetime
    last: datetime


@dataclass(frozen=True)
class Asked:
    """Which rows are asked for. Each span is from its first moment to before its second one.

    Attributes:
        received: when they were received.
        either: when they were captured or received.
    """

    received: tuple[datetime, datetime]
    either: tuple[datetime, datetime]


class Reader(Protocol):
    """Reads a database and changes nothing in it but by ``delete``. May be used by several threads.

    Each method may raise:
        StoreUnavailableError: it does not answer now.
        StoreRefusedError: it never will, like this; names the setting or the command that mends it.
    """

    def streams(self) -> list[StreamSpan]:
        """Return the streams that have minutes, in no order."""

    def minutes(self, pi_id: str, first: int, end: int) -> list[Minute]:
        """Return the stored minutes of a stream from ``first`` to before ``end`` (since 1970), in order."""

    def page(self, pi_id: str, asked: Asked, offset: int, limit: int) -> list[StoredRow]:
        """Return rows in order of receipt, without landmarks: ``limit`` of them after the first ``offset``."""

    def newest(self, pi_id: str, limit: int) -> list[StoredRow]:
        """Return the rows received last, the newest first, without landmarks."""

    def frame(self, pi_id: str, frame_id: str) -> StoredRow | None:
        """Return the row of a frame, with its landmarks."""

    def delete(self, pi_id: str) -> int:
        """Delete all rows of a stream, and its minutes with them; return how many rows. See ``Store.delete``."""

    def close(self) -> None:
        """Release the connection."""
