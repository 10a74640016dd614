"""Rows in PostgreSQL, by psycopg 3: pipelined batches, each within a time-out of our own."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime

import psycopg

from posture.store.base import (
    COLUMNS,
    DIGEST,
    LATER_COLUMNS,
    TABLE,
    URL_SETTING,
    Key,
    RemoteStore,
    StoreRefusedError,
    Value,
    clean_key,
    key_of,
    same_attempt,
    says_what_lacks,
)
from posture.store.postgres_connection import Connection, PostgresConnection

log = logging.getLogger(__name__)

TYPES = {
    "received_time": "timestamptz",
    "analyzed_time": "timestamptz",
    "captured_time": "timestamptz",
    "neck_angle": "double precision",
    "body_angle": "double precision",
    "landmarks_detected": "boolean",
    "schema_version": "integer",
    "seq": "bigint",
}
"""Every other column is text. As in schema.sql."""
PRUNE_ROWS = 5_000

# The casts are for tables of the first deployments, whose times may be text.
WRITTEN = f"""
    SELECT pi_id, frame_id, analyzed_time::timestamptz, processed_by FROM {TABLE}
    WHERE pi_id = ANY(%s) AND frame_id = ANY(%s)
"""  # noqa: S608
DIGESTS = f"SELECT frame_id, {{}} FROM {TABLE} WHERE pi_id = %s AND frame_id = ANY(%s)"  # noqa: S608
COUNTS = f"SELECT posture_status, count(*) FROM {TABLE} WHERE pi_id = %s GROUP BY 1"  # noqa: S608
SEQUENCES = f"SELECT min(seq), max(seq), count(DISTINCT seq) FROM {TABLE} WHERE pi_id = %s AND boot_id = %s"  # noqa: S608
PRUNE = f"""
    WITH deleted AS (
        DELETE FROM {TABLE} WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {TABLE} WHERE received_time::timestamptz < %s LIMIT %s
        )) RETURNING 1
    )
    SELECT count(*) FROM deleted
"""  # noqa: S608
DELETE = f"""
    WITH deleted AS (
        DELETE FROM {TABLE} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {TABLE} WHERE pi_id = %s LIMIT %s)) RETURNING 1
    )
    SELECT count(*) FROM deleted
"""  # noqa: S608
PRESENT = """
    SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped
"""


class PostgresStore(RemoteStore):
    """PostgreSQL; a lost connection is opened again by the next call.

    Args:
        url: ``postgresql://...``; a transaction pooler will do.
        timeout_s: bound of connecting, and of each statement, in seconds.

    Raises:
        StoreUnavailableError: it does not answer now.
        StoreRefusedError: it refuses us, or has no table that we can use.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s
        self._connection = PostgresConnection(url, timeout_s)
        self._call = self._connection.call
        self.columns: Sequence[str] = COLUMNS
        try:
            self._call(self._complete_table)
        except _LacksLaterColumnsError as error:
            self.close()
            self.columns = [name for name in COLUMNS if name not in error.columns]
            log.warning("database %s: %s", self._connection.name, says_what_lacks(error.columns))

    def _complete_table(self, db: Connection) -> None:
        """Add the columns that a table of the first deployments lacks; its rows stay as they are."""
        present = {name for (name,) in db.execute(PRESENT, {"table": TABLE})}
        lacking = [name for name in COLUMNS if name not in present]
        if not lacking:
            return
        advice = (
            f"{URL_SETTING}: {self._connection.name} has no {TABLE} that we can use; "
            "apply the schema: psql -f deploy/schema/schema.sql"
        )
        if not present:
            raise StoreRefusedError(advice)
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} {TYPES.get(name, 'text')}" for name in lacking)
        try:
            with db.pipeline():  # the inner one's end is where its errors come up
                db.execute(f"ALTER TABLE {TABLE} {added}")
                db.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {TABLE}_frame ON {TABLE} (pi_id, frame_id)")
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.QueryCanceled):
            if set(lacking) <= LATER_COLUMNS.keys():
                raise _LacksLaterColumnsError(lacking) from None
            raise StoreRefusedError(f"{advice} (it lacks {', '.join(lacking)})") from None

    def _insert(self, chunk: list[dict[str, Value]]) -> set[Key]:
        # one statement for all, so that the trigger takes up their minutes in one order and writers never deadlock
        statement = _insert_into(self.columns, len(chunk))
        values = [row[name] for row in chunk for name in self.columns]
        return {
            (pi_id, frame_id) for pi_id, frame_id in self._call(lambda db: db.execute(statement, values).fetchall())
        }

    def _written_before(self, chunk: list[dict[str, Value]]) -> set[Key]:
        keys = ([row["pi_id"] for row in chunk], [row["frame_id"] for row in chunk])
        found = self._call(lambda db: db.execute(WRITTEN, keys).fetchall())
        there = {(pi_id, frame_id): attempt for pi_id, frame_id, *attempt in found}
        return {key_of(row) for row in chunk if key_of(row) in there and same_attempt(row, *there[key_of(row)])}

    def digests(self, pi_id: str, frame_ids: Sequence[str]) -> dict[str, str | None]:
        """See ``Store.digests``."""
        ids = {clean_key(frame_id): frame_id for frame_id in frame_ids}
        keys = (clean_key(pi_id), list(ids))
        query = DIGESTS.format(DIGEST if DIGEST in self.columns else "NULL")
        return {ids[found]: digest for found, digest in self._call(lambda db: db.execute(query, keys).fetchall())}

    def counts(self, pi_id: str) -> dict[str, int]:
        """See ``Store.counts``."""
        return dict(self._call(lambda db: db.execute(COUNTS, (clean_key(pi_id),)).fetchall()))

    def sequences(self, pi_id: str, boot_id: str) -> tuple[int | None, int | None, int]:
        """See ``Store.sequences``."""
        keys = (clean_key(pi_id), clean_key(boot_id))
        low, high, number = self._call(lambda db: db.execute(SEQUENCES, keys).fetchall())[0]
        return low, high, number

    def prune(self, older_than: datetime) -> int:
        """See ``Store.prune``."""
        deadline = time.monotonic() + self._timeout_s
        total = deleted = 0
        while True:
            ((deleted,),) = self._call(lambda db: db.execute(PRUNE, (older_than, PRUNE_ROWS)).fetchall())
            total += deleted
            if deleted < PRUNE_ROWS or time.monotonic() > deadline:
                return int(total)

    def delete(self, pi_id: str) -> int:
        """See ``Store.delete``."""
        total = 0
        while True:
            ((deleted,),) = self._call(lambda db: db.execute(DELETE, (clean_key(pi_id), PRUNE_ROWS)).fetchall())
            total += deleted
            if not deleted:
                return int(total)

    def close(self) -> None:
        """See ``Store.close``."""
        self._connection.close()


class _LacksLaterColumnsError(Exception):
    """The table lacks columns that it serves without."""

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__()
        self.columns = columns


def _insert_into(columns: Sequence[str], rows: int) -> str:
    row = f"({', '.join(['%s'] * len(columns))})"
    return f"""
        INSERT INTO {TABLE} ({", ".join(columns)}) VALUES {", ".join([row] * rows)}
        ON CONFLICT (pi_id, frame_id) DO NOTHING RETURNING pi_id, frame_id
    """  # noqa: S608 - names of ours
