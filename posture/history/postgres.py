"""Questions to PostgreSQL."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

from posture.history.minutes import Minute, start_of
from posture.history.reader import LISTED, StoredRow, StreamSpan
from posture.store.base import COLUMNS, MINUTE_COLUMNS, MINUTES_TABLE, TABLE, clean_key
from posture.store.postgres import PostgresStore
from posture.store.postgres_connection import PostgresConnection

STREAMS = "SELECT pi_id, first_minute, last_minute FROM posture_streams()"
MINUTES = f"""
    SELECT {", ".join(MINUTE_COLUMNS[1:])} FROM {MINUTES_TABLE}
    WHERE pi_id = %s AND minute >= %s AND minute < %s ORDER BY minute
"""  # noqa: S608 - names of ours
PAGE = f"""
    SELECT {", ".join(LISTED)} FROM {TABLE} WHERE pi_id = %s AND received_time >= %s AND received_time < %s
    ORDER BY received_time {{0}}, frame_id {{0}} LIMIT %s OFFSET %s
"""  # noqa: S608
FRAME = f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE pi_id = %s AND frame_id = %s"  # noqa: S608


class PostgresReader:
    """See ``Reader``.

    Args:
        url: ``postgresql://...``; a role that may read both tables will do, and delete where that is asked for.
        timeout_s: bound of connecting, and of each question, in seconds.

    Raises:
        StoreUnavailableError: it does not answer now.
        StoreRefusedError: it refuses us, or lacks what schema.sql makes.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._connection = PostgresConnection(url, timeout_s)
        self.streams()

    def _rows(self, query: str, *values: Any) -> list[Any]:
        return self._connection.call(lambda db: db.execute(query, values).fetchall())

    def streams(self) -> list[StreamSpan]:
        """See ``Reader.streams``."""
        return [StreamSpan(pi_id, start_of(first), start_of(last)) for pi_id, first, last in self._rows(STREAMS)]

    def minutes(self, pi_id: str, first: int, end: int) -> list[Minute]:
        """See ``Reader.minutes``."""
        return [Minute(*row) for row in self._rows(MINUTES, clean_key(pi_id), first, end)]

    def page(
        self, pi_id: str, start: datetime, end: datetime, *, offset: int, limit: int, newest_first: bool = False
    ) -> list[StoredRow]:
        """See ``Reader.page``."""
        query = PAGE.format("DESC" if newest_first else "ASC")
        found = self._rows(query, clean_key(pi_id), start, end, limit, offset)
        return [dict(zip(LISTED, values, strict=True)) for values in found]

    def frame(self, pi_id: str, frame_id: str) -> StoredRow | None:
        """See ``Reader.frame``."""
        found = self._rows(FRAME, clean_key(pi_id), clean_key(frame_id))
        return dict(zip(COLUMNS, found[0], strict=True)) if found else None

    def delete(self, pi_id: str) -> int:
        """See ``Reader.delete``."""
        with contextlib.closing(PostgresStore(self._url, self._timeout_s)) as store:
            return store.delete(pi_id)

    def close(self) -> None:
        """See ``Reader.close``."""
        self._connection.close()
