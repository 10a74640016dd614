"""Rows in PostgreSQL, by psycopg 3: pipelined batches, each within a time-out of our own."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from posture.store.base import (
    ACCEPTED_URLS,
    COLUMNS,
    LACKS_LATER_COLUMN,
    LATER_COLUMN,
    TABLE,
    URL_SETTING,
    Key,
    RemoteStore,
    StoreRefusedError,
    StoreUnavailableError,
    Value,
    clean_key,
    key_of,
    same_attempt,
)

log = logging.getLogger(__name__)

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
Result = TypeVar("Result")

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
GRACE_S = 0.5
"""The server's own time-out comes first: it says what it was about, and the connection stays."""

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
PRESENT = """
    SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""

REFUSALS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "not permitted to log in",
    "permission denied",
    "Tenant or user not found",  # Supabase's pooler
    "does not exist",  # the role or the database
    "unsupported startup parameter",  # PgBouncer, about what the URL asks for
)
"""While connecting, the client library reports errors as the server's text only, without a code."""
SCHEMA_CLASSES = ("0A", "22", "23", "3D", "3F", "42", "54")
"""Classes of SQLSTATE that time does not heal: the table is not as schema.sql makes it."""


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
        self._url, self._timeout_s = url, timeout_s
        try:
            parts = conninfo_to_dict(url)
            if not all(port.isdigit() for port in str(parts.get("port", 5432)).split(",")):
                raise psycopg.ProgrammingError("port")
            # the rest of a password that holds an @ or a / would be the host's or the database's name
            if "@" in f"{parts.get('host', '')}{parts.get('dbname', '')}":
                raise psycopg.ProgrammingError("password")
        except psycopg.ProgrammingError:
            # the library's text may hold the password
            raise StoreRefusedError(
                f"{URL_SETTING} is no address that PostgreSQL's client understands; accepted: {ACCEPTED_URLS}; "
                "@, : and / in a password are written %40, %3A and %2F"
            ) from None
        self._name = f"postgresql://{parts.get('host', '')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
        self._password = str(parts.get("password") or "")
        self._db: Connection | None = None
        self._columns = COLUMNS
        # it would log a lost connection three times; we log it once
        logging.getLogger("psycopg").setLevel(logging.ERROR)
        try:
            self._call(self._complete_table)
        except _LacksLaterColumn:
            self.close()
            self._columns = [name for name in COLUMNS if name != LATER_COLUMN]
            log.warning("database %s: %s", self._name, LACKS_LATER_COLUMN)

    def _connection(self) -> Connection:
        if self._db is None:
            self._db = psycopg.connect(
                self._url,
                connect_timeout=math.ceil(self._timeout_s),
                fallback_application_name="posture-farm",
                client_encoding="utf8",
                tcp_user_timeout=math.ceil(self._timeout_s * 1000),
                prepare_threshold=None,  # a transaction pooler in between knows no prepared statements
                autocommit=True,
            )
        return self._db

    def _call(self, work: Callable[[Connection], Result]) -> Result:
        """Run work in a transaction of its own; after any failure the connection is closed."""
        try:
            db = self._connection()
            with _cut_after(db, self._timeout_s + GRACE_S), db.pipeline(), db.transaction():
                # settings of the transaction: those of a session would stay with a pooler's connection
                db.execute(
                    "SELECT set_config('statement_timeout', %s, true), set_config('TimeZone', 'UTC', true)",
                    (str(math.ceil(self._timeout_s * 1000)),),
                )
                return work(db)
        except psycopg.Error as error:
            self.close()
            raise self._failure(error) from None
        except StoreRefusedError:
            self.close()
            raise

    def _failure(self, error: psycopg.Error) -> StoreUnavailableError | StoreRefusedError:
        state = error.sqlstate or ""
        # the server's details hold the row, which is about a person
        text = " ".join((error.diag.message_primary or str(error)).split())
        if self._password:
            text = text.replace(self._password, "***").replace(quote(self._password, safe=""), "***")
        if state == "42501":
            return StoreRefusedError(
                f"{URL_SETTING}: {self._name}: {text}; the role must own {TABLE}, or be let through row level "
                "security for SELECT, INSERT and DELETE"
            )
        if state[:2] == "28" or (state in {"", "08P01"} and any(sign in text for sign in REFUSALS)):
            return StoreRefusedError(f"{URL_SETTING}: {self._name} refuses us: {text}")
        if state[:2] in SCHEMA_CLASSES:
            return StoreRefusedError(
                f"{URL_SETTING}: {self._name} can't take our rows: {text}; run schema.sql on it: psql -f schema.sql"
            )
        return StoreUnavailableError(f"database {self._name}: {text}")

    def _complete_table(self, db: Connection) -> None:
        """Add the columns that a table of the first deployments lacks; its rows stay as they are."""
        present = {name for (name,) in db.execute(PRESENT, (TABLE,))}
        lacking = [name for name in COLUMNS if name not in present]
        if not lacking:
            return
        advice = (
            f"{URL_SETTING}: {self._name} has no {TABLE} that we can use; run schema.sql on it: psql -f schema.sql"
        )
        if not present:
            raise StoreRefusedError(advice)
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} {TYPES.get(name, 'text')}" for name in lacking)
        try:
            with db.pipeline():  # the inner one's end is where its errors come up
                db.execute(f"ALTER TABLE {TABLE} {added}")
                db.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {TABLE}_frame ON {TABLE} (pi_id, frame_id)")
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.QueryCanceled):
            if lacking == [LATER_COLUMN]:
                raise _LacksLaterColumn from None
            raise StoreRefusedError(f"{advice} (it lacks {', '.join(lacking)})") from None

    def _insert(self, chunk: list[dict[str, Value]]) -> set[Key]:
        def work(db: Connection) -> set[Key]:
            with db.cursor() as cursor:
                cursor.executemany(_insert_into(self._columns), chunk, returning=True)
                inserted = set(cursor.fetchall())
                while cursor.nextset():
                    inserted.update(cursor.fetchall())
                return {(pi_id, frame_id) for pi_id, frame_id in inserted}

        return self._call(work)

    def _written_before(self, chunk: list[dict[str, Value]]) -> set[Key]:
        keys = ([row["pi_id"] for row in chunk], [row["frame_id"] for row in chunk])
        found = self._call(lambda db: db.execute(WRITTEN, keys).fetchall())
        there = {(pi_id, frame_id): attempt for pi_id, frame_id, *attempt in found}
        return {key_of(row) for row in chunk if key_of(row) in there and same_attempt(row, *there[key_of(row)])}

    def digests(self, pi_id: str, frame_ids: Sequence[str]) -> dict[str, str | None]:
        """See ``Store.digests``."""
        ids = {clean_key(frame_id): frame_id for frame_id in frame_ids}
        keys = (clean_key(pi_id), list(ids))
        query = DIGESTS.format(LATER_COLUMN if LATER_COLUMN in self._columns else "NULL")
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

    def close(self) -> None:
        """See ``Store.close``."""
        if self._db is not None:
            self._db.close()
            self._db = None


class _LacksLaterColumn(Exception):  # noqa: N818 - not an error: the table serves without it
    pass


def _insert_into(columns: Sequence[str]) -> str:
    return f"""
        INSERT INTO {TABLE} ({", ".join(columns)}) VALUES ({", ".join(f"%({name})s" for name in columns)})
        ON CONFLICT (pi_id, frame_id) DO NOTHING RETURNING pi_id, frame_id
    """  # noqa: S608 - names of ours


@contextlib.contextmanager
def _cut_after(db: Connection, seconds: float) -> Iterator[None]:
    """Cut the connection if the server has not answered by then: its own time-outs don't bind one that hangs."""

    def cut() -> None:
        with socket.socket(fileno=os.dup(db.fileno())) as connection, contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # so that it never meets a descriptor that has been closed and given to another
