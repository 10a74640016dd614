"""Questions to Supabase, through its REST interface."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from posture.history.minutes import Minute, start_of
from posture.history.reader import LISTED, Asked, StoredRow, StreamSpan
from posture.store.base import (
    COLUMNS,
    LATER_COLUMNS,
    MINUTES_TABLE,
    TABLE,
    StoreRefusedError,
    StoreUnavailableError,
    as_text,
    clean_key,
)
from posture.store.supabase import UNDEFINED_COLUMN, SupabaseStore
from posture.store.supabase_connection import SupabaseConnection, moment_of

STREAMS = "posture_streams"
MINUTES = f"{MINUTES_TABLE}_between"
"""Functions of schema.sql: REST alone gives no more than 1000 rows at once, and can't skip from name to name."""
TIMES = ("received_time", "analyzed_time", "captured_time")


class SupabaseReader:
    """See ``Reader``.

    Args:
        url: the project's address, ``https://...``.
        key: its secret key.
        timeout_s: bound of connecting, sending, and each wait for bytes, in seconds.

    Raises:
        StoreUnavailableError: it does not answer now.
        StoreRefusedError: it refuses the key, or lacks what schema.sql makes.
    """

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._url, self._key, self._timeout_s = url, key, timeout_s
        self._connection = SupabaseConnection(url, key, timeout_s)
        try:
            self.streams()
            self._columns = self._columns_there(COLUMNS)
        except (StoreUnavailableError, StoreRefusedError):
            self.close()
            raise

    def _ask(self, function: str, **arguments: str | int) -> list[Any]:
        found: list[Any] = self._connection.call(
            lambda: self._connection.client.rpc(function, arguments).execute().data
        )
        return found

    def _columns_there(self, columns: Sequence[str]) -> Sequence[str]:
        """Return the columns without those of LATER_COLUMNS that the table lacks; an answer names one of them."""
        table = self._connection.client.table(TABLE)
        try:
            self._connection.call(lambda: table.select(",".join(columns)).limit(1).retry(False).execute().data)
        except StoreRefusedError:
            later = [name for name in LATER_COLUMNS if name in columns]
            if self._connection.error.get("code") != UNDEFINED_COLUMN or not later:
                raise
            return self._columns_there([name for name in columns if name != later[-1]])
        return columns

    def _rows(self, request: Any) -> list[StoredRow]:
        return [_row(found) for found in self._connection.call(lambda: request.retry(False).execute().data)]

    def _select(self, columns: Iterable[str], pi_id: str) -> Any:
        present = ",".join(name for name in columns if name in self._columns)
        return self._connection.client.table(TABLE).select(present).eq("pi_id", clean_key(pi_id))

    def streams(self) -> list[StreamSpan]:
        """See ``Reader.streams``."""
        return [
            StreamSpan(found["pi_id"], start_of(found["first_minute"]), start_of(found["last_minute"]))
            for found in self._ask(STREAMS)
        ]

    def minutes(self, pi_id: str, first: int, end: int) -> list[Minute]:
        """See ``Reader.minutes``."""
        (found,) = self._ask(MINUTES, of_pi_id=clean_key(pi_id), first_minute=first, end_minute=end)
        return [Minute(*values) for values in found["minutes"]]

    def page(self, pi_id: str, asked: Asked, offset: int, limit: int) -> list[StoredRow]:
        """See ``Reader.page``."""
        first, last, start, end = (as_text(moment) for moment in (*asked.received, *asked.either))
        spans = [f'and({name}.gte."{start}",{name}.lt."{end}")' for name in ("received_time", "captured_time")]
        query = self._select(LISTED, pi_id).gte("received_time", first).lt("received_time", last)
        query = query.or_(",".join(spans)).order("received_time").order("frame_id")
        return self._rows(query.range(offset, offset + limit - 1))

    def newest(self, pi_id: str, limit: int) -> list[StoredRow]:
        """See ``Reader.newest``."""
        query = self._select(LISTED, pi_id).not_.is_("received_time", "null").order("received_time", desc=True)
        return self._rows(query.limit(limit))

    def frame(self, pi_id: str, frame_id: str) -> StoredRow | None:
        """See ``Reader.frame``."""
        found = self._rows(self._select(COLUMNS, pi_id).eq("frame_id", clean_key(frame_id)))
        return found[0] if found else None

    def delete(self, pi_id: str) -> int:
        """See ``Reader.delete``."""
        with contextlib.closing(SupabaseStore(self._url, self._key, self._timeout_s)) as store:
            return store.delete(pi_id)

    def close(self) -> None:
        """See ``Reader.close``."""
        self._connection.close()


def _row(found: dict[str, Any]) -> StoredRow:
    values = {name: moment_of(value) if name in TIMES and value else value for name, value in found.items()}
    return dict.fromkeys(LISTED) | values
