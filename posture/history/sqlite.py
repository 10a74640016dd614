"""Questions to an SQLite file, each on a read-only connection of its own, which is opened in a tenth of a ms."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from posture.history.minutes import Minute, start_of
from posture.history.reader import LISTED, Asked, StoredRow, StreamSpan
from posture.store.base import (
    COLUMNS,
    MINUTE_COLUMNS,
    MINUTES_TABLE,
    TABLE,
    URL_SETTING,
    StoreUnavailableError,
    as_text,
    clean_key,
)
from posture.store.sqlite import SqliteStore, errors_of

TIMES = ("received_time", "analyzed_time", "captured_time")
# From name to name by the primary key: DISTINCT would read every minute.
STREAMS = f"""
    WITH RECURSIVE names(pi_id) AS (
        SELECT min(pi_id) FROM {MINUTES_TABLE}
        UNION ALL
        SELECT (SELECT min(pi_id) FROM {MINUTES_TABLE} WHERE pi_id > names.pi_id) FROM names WHERE pi_id IS NOT NULL
    )
    SELECT pi_id, (SELECT min(minute) FROM {MINUTES_TABLE} AS m WHERE m.pi_id = names.pi_id),
        (SELECT max(minute) FROM {MINUTES_TABLE} AS m WHERE m.pi_id = names.pi_id)
    FROM names WHERE pi_id IS NOT NULL
"""  # noqa: S608 - names of ours
MINUTES = f"""
    SELECT {", ".join(MINUTE_COLUMNS[1:])} FROM {MINUTES_TABLE}
    WHERE pi_id = ? AND minute >= ? AND minute < ? ORDER BY minute
"""  # noqa: S608
PAGE = f"""
    SELECT {", ".join(LISTED)} FROM {TABLE}
    WHERE pi_id = ?1 AND received_time >= ?2 AND received_time < ?3
        AND (received_time >= ?4 AND received_time < ?5 OR captured_time >= ?4 AND captured_time < ?5)
    ORDER BY received_time, rowid LIMIT ?6 OFFSET ?7
"""  # noqa: S608
NEWEST = f"SELECT {', '.join(LISTED)} FROM {TABLE} WHERE pi_id = ? ORDER BY received_time DESC LIMIT ?"  # noqa: S608
FRAME = f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE pi_id = ? AND frame_id = ?"  # noqa: S608


class SqliteReader:
    """See ``Reader``.

    Args:
        path: the file. One of an earlier version is completed first, which the analyzer would do, too.
        timeout_s: how long a question waits for another process's lock.

    Raises:
        StoreUnavailableError: the file is not there, or can't be read now.
        StoreRefusedError: the file is no database that we can use.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s
        counted = self._rows("SELECT 1 FROM sqlite_master WHERE name = ?", f"{MINUTES_TABLE}_counted")
        present = {name for (name,) in self._rows("SELECT name FROM pragma_table_info(?)", TABLE)}
        if not counted or not present.issuperset(COLUMNS):
            SqliteStore(path, timeout_s).close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with errors_of(self._path):
            if not self._path.is_file():
                raise StoreUnavailableError(
                    f"database {self._path}: there is no such file; {URL_SETTING} names it, "
                    "and an analyzer makes it"
                )
            # never made by us: an empty one would hide that the path is wrong
            address = f"file:{quote(str(self._path.absolute()))}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=self._timeout_s)) as db:
                yield db

    def _rows(self, query: str, *values: str | int) -> list[Any]:
        with self._connection() as db:
            return db.execute(query, values).fetchall()

    def streams(self) -> list[StreamSpan]:
        """See ``Reader.streams``."""
        return [StreamSpan(pi_id, start_of(first), start_of(last)) for pi_id, first, last in self._rows(STREAMS)]

    def minutes(self, pi_id: str, first: int, end: int) -> list[Minute]:
        """See ``Reader.minutes``."""
        return list(map(Minute._make, self._rows(MINUTES, clean_key(pi_id), first, end)))

    def page(self, pi_id: str, asked: Asked, offset: int, limit: int) -> list[StoredRow]:
        """See ``Reader.page``."""
        times = [as_text(moment) for moment in (*asked.received, *asked.either)]
        found = self._rows(PAGE, clean_key(pi_id), *times, limit, offset)
        return [_row(dict(zip(LISTED, values, strict=True))) for values in found]

    def newest(self, pi_id: str, limit: int) -> list[StoredRow]:
        """See ``Reader.newest``."""
        found = self._rows(NEWEST, clean_key(pi_id), limit)
        return [_row(dict(zip(LISTED, values, strict=True))) for values in found]

    def frame(self, pi_id: str, frame_id: str) -> StoredRow | None:
        """See ``Reader.frame``."""
        found = self._rows(FRAME, clean_key(pi_id), clean_key(frame_id))
        return _row(dict(zip(COLUMNS, found[0], strict=True))) if found else None

    def delete(self, pi_id: str) -> int:
        """See ``Reader.delete``."""
        store = SqliteStore(self._path, self._timeout_s)
        with contextlib.closing(store):
            return store.delete(pi_id)

    def close(self) -> None:
        """See ``Reader.close``."""


def _row(values: dict[str, Any]) -> StoredRow:
    for name in TIMES:
        values[name] = _moment(values[name])
    values["landmarks_detected"] = bool(values["landmarks_detected"])
    return values


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    # those of the first deployments have no offset
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
