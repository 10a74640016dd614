"""Questions to PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from posture.history.minutes import Minute, start_of
from posture.history.reader import LISTED, Asked, StoredRow, StreamSpan
from posture.store.base import COLUMNS, LATER_COLUMNS, MINUTE_COLUMNS, MINUTES_TABLE, TABLE, clean_key
from posture.store.postgres import PRESENT, PostgresStore
from posture.store.postgres_connection import PostgresConnection

STREAMS = "SELECT pi_id, first_minute, last_minute FROM posture_streams()"
MINUTES = f"""
    SELECT {", ".join(MINUTE_COLUMNS[1:])} FROM {MINUTES_TABLE}
    WHERE pi_id = %(pi_id)s AND minute >= %(first)s AND minute < %(end)s ORDER BY minute
"""  # noqa: S608 - names of ours
PAGE = f"""
    SELECT {{}} FROM {TABLE}
    WHERE pi_id = %(pi_id)s AND received_time >= %(first)s AND received_time < %(last)s
        AND (received_time >= %(start)s AND received_time < %(end)s
            OR captured_time >= %(start)s AND captured_time < %(end)s)
    ORDER BY received_time, frame_id LIMIT %(limit)s OFFSET %(offset)s
"""  # noqa: S608
NEWEST = f"""
    SELECT {{}} FROM {TABLE} WHERE pi_id = %(pi_id)s AND received_time IS NOT NULL
    ORDER BY received_time DESC LIMIT %(limit)s
"""  # noqa: S608
FRAME = f"SELECT {{}} FROM {TABLE} WHERE pi_id = %(pi_id)s AND frame_id = %(frame_id)s"  # noqa: S608


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
        present = {name for (name,) in self._ask(PRESENT, table=TABLE)}
        self._columns = [name for name in COLUMNS if name in present or name not in LATER_COLUMNS]
        self.streams()

    def _ask(self, query: str, **values: Any) -> list[Any]:
        return self._connection.call(lambda db: db.execute(query, values).fetchall())

    def _rows(self, query: str, columns: Sequence[str], **values: Any) -> list[StoredRow]:
        """Return rows; a column of LATER_COLUMNS that the table lacks is None in them."""
        present = [name for name in columns if name in self._columns]
        found = self._ask(query.format(", ".join(present)), **values)
        return [dict.fromkeys(columns) | dict(zip(present, row, strict=True)) for row in found]

    def streams(self) -> list[StreamSpan]:
        """See ``Reader.streams``."""
        return [StreamSpan(pi_id, start_of(first), start_of(last)) for pi_id, first, last in self._ask(STREAMS)]

    def minutes(self, pi_id: str, first: int, end: int) -> list[Minute]:
        """See ``Reader.minutes``."""
        return list(map(Minute._make, self._ask(MINUTES, pi_id=clean_key(pi_id), first=first, end=end)))

    def page(self, pi_id: str, asked: Asked, offset: int, limit: int) -> list[StoredRow]:
        """See ``Reader.page``."""
        (first, last), (start, end) = asked.received, asked.either
        values = {"first": first, "last": last, "start": start, "end": end, "limit": limit, "offset": offset}
        return self._rows(PAGE, LISTED, pi_id=clean_key(pi_id), **values)

    def newest(self, pi_id: str, limit: int) -> list[StoredRow]:
        """See ``Reader.newest``."""
        return self._rows(NEWEST, LISTED, pi_id=clean_key(pi_id), limit=limit)

    def frame(self, pi_id: str, frame_id: str) -> StoredRow | None:
        """See ``Reader.frame``."""
        found = self._rows(FRAME, COLUMNS, pi_id=clean_key(pi_id), frame_id=clean_key(frame_id))
        return found[0] if found else None

    def delete(self, pi_id: str) -> int:
        """See ``Reader.delete``."""
        with contextlib.closing(PostgresStore(self._url, self._timeout_s)) as store:
            return store.delete(pi_id)

    def close(self) -> None:
        """See ``Reader.close``."""
        self._connection.close()
