"""Rows: one interface, three stores. SQLite is embedded; PostgreSQL and Supabase are shared by the nodes.

A write is idempotent (unique is pi_id with frame_id) and durable when it returns. An error that time can heal is
``StoreUnavailable``; one that a person must heal is ``StoreRefused``. Neither ever acknowledges anything.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import psycopg
from postgrest.exceptions import APIError
from psycopg import errors as pg
from supabase import Client, ClientOptions, create_client

TABLE = "posture_log"
CHUNK = 500
"""Rows in one request or statement."""


class StoreUnavailable(Exception):  # noqa: N818 - a state of the store
    """The store is away or can't take more now: try again later."""


class StoreRefused(Exception):  # noqa: N818 - a state of the store
    """Authentication, policy or schema: retrying changes nothing. Names the setting."""


@dataclass(frozen=True)
class Row:
    """One frame. Times are UTC; angles are magnitudes in degrees; ``filename`` is empty if no picture is kept."""

    pi_id: str
    frame_id: str
    filename: str
    received_time: datetime
    analyzed_time: datetime
    captured_time: datetime | None
    neck_angle: float | None
    body_angle: float | None
    posture_status: str
    landmarks_detected: bool
    processed_by: str
    side: str
    reason: str
    rule_set: str
    landmarks: str | None
    """JSON: 33 of [x, y, visibility], in pixels of the analysed picture."""
    schema_version: int
    seq: int | None
    boot_id: str | None


COLUMNS = [entry.name for entry in fields(Row)]
SQLITE_TYPES = {
    "neck_angle": "REAL",
    "body_angle": "REAL",
    "landmarks_detected": "INTEGER",
    "schema_version": "INTEGER",
    "seq": "INTEGER",
}
"""Every other column is TEXT."""


class Store(Protocol):
    """Where rows go."""

    def write(self, rows: Sequence[Row]) -> set[str]:
        """Insert rows that are not there yet, durably; return the frame ids of those that were new.

        Raises:
            StoreUnavailable: try again; doing so is harmless.
            StoreRefused: a person must act.
        """

    def counts(self, pi_id: str) -> dict[str, int]:
        """Return rows of a stream by posture_status."""

    def sequences(self, pi_id: str, boot_id: str) -> tuple[int | None, int | None, int]:
        """Return (lowest, highest, number) of the sequence numbers of a camera's boot that have a row."""

    def prune(self, older_than: datetime) -> int:
        """Delete rows received before; return how many."""

    def close(self) -> None:
        """Release the connection."""


def open_store(url: str, *, key: str | None = None, timeout_s: float = 10.0) -> Store:
    """Open the store that ``url`` names.

    Args:
        url: ``sqlite:///path``, ``postgresql://...`` or ``https://...`` (Supabase).
        key: Supabase's secret key.
        timeout_s: bound of one request or statement.

    Raises:
        StoreUnavailable: it can't be opened now.
        StoreRefused: it never will be, like this.
    """
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        return SqliteStore(Path(url.removeprefix("sqlite:///")), timeout_s)
    if scheme in ("postgresql", "postgres"):
        return PostgresStore(url, timeout_s)
    if not key:
        raise StoreRefused(
            "database.url is a Supabase project, so POSTURE_SUPABASE_KEY (its secret key) must be set"
        )
    return SupabaseStore(url, key, timeout_s)


def _clean(row: Row) -> Row:
    """Return the row as every store can take it: one odd value must not block a batch for ever."""
    changes: dict[str, Any] = {}
    for name in COLUMNS:
        value = getattr(row, name)
        if isinstance(value, str):
            # PostgreSQL has no NUL in text, and no store takes half a surrogate pair
            changes[name] = value.replace("\x00", "").encode("utf-8", "replace").decode()
        elif isinstance(value, float) and not math.isfinite(value):
            changes[name] = None
        elif isinstance(value, datetime):
            changes[name] = value.astimezone(timezone.utc)
    return replace(row, **changes)


def _as_text(row: Row) -> dict[str, Any]:
    """Return the row with its times in ISO 8601."""
    cleaned = _clean(row)
    values = {name: getattr(cleaned, name) for name in COLUMNS}
    return {
        name: value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value
        for name, value in values.items()
    }


class SqliteStore:
    """An embedded database file; WAL, synced at every commit."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=timeout_s, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except OSError as error:
            raise StoreUnavailable(f"database {path}: {error.strerror}") from error
        except sqlite3.OperationalError as error:
            raise self._unavailable(error) from error
        except sqlite3.DatabaseError as error:
            raise StoreRefused(f"database.url: {path} is no SQLite database that we can use: {error}") from error

    def _migrate(self) -> None:
        """Make the table, or add what a table of the first deployments lacks; its rows stay as they are."""
        definitions = ", ".join(f"{name} {SQLITE_TYPES.get(name, 'TEXT')}" for name in COLUMNS)
        with self._transaction():
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({definitions})")
            present = {row[1] for row in self._db.execute(f"PRAGMA table_info({TABLE})")}
            for name in COLUMNS:
                if name not in present:
                    self._db.execute(f"ALTER TABLE {TABLE} ADD COLUMN {name} {SQLITE_TYPES.get(name, 'TEXT')}")
            self._db.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {TABLE}_frame ON {TABLE} (pi_id, frame_id)")
            self._db.execute(f"CREATE INDEX IF NOT EXISTS {TABLE}_boot ON {TABLE} (pi_id, boot_id, seq)")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _unavailable(self, error: sqlite3.OperationalError) -> StoreUnavailable:
        return StoreUnavailable(f"database {self._path}: {error}")

    def write(self, rows: Sequence[Row]) -> set[str]:
        """See ``Store.write``."""
        marks = ", ".join(f":{name}" for name in COLUMNS)
        statement = (
            f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES ({marks}) ON CONFLICT (pi_id, frame_id) DO NOTHING"  # noqa: S608
        )
        inserted: set[str] = set()
        try:
            with self._transaction():
                for row in rows:
                    if self._db.execute(statement, _as_text(row)).rowcount == 1:
                        inserted.add(row.frame_id)
        except sqlite3.OperationalError as error:
            raise self._unavailable(error) from error
        return inserted

    def counts(self, pi_id: str) -> dict[str, int]:
        """See ``Store.counts``."""
        query = f"SELECT posture_status, count(*) FROM {TABLE} WHERE pi_id = ? GROUP BY 1"  # noqa: S608
        return dict(self._read(query, (pi_id,)))

    def sequences(self, pi_id: str, boot_id: str) -> tuple[int | None, int | None, int]:
        """See ``Store.sequences``."""
        query = f"SELECT min(seq), max(seq), count(DISTINCT seq) FROM {TABLE} WHERE pi_id = ? AND boot_id = ?"  # noqa: S608
        low, high, number = self._read(query, (pi_id, boot_id))[0]
        return low, high, number

    def prune(self, older_than: datetime) -> int:
        """See ``Store.prune``."""
        limit = older_than.astimezone(timezone.utc).isoformat(timespec="microseconds")
        try:
            return self._db.execute(f"DELETE FROM {TABLE} WHERE received_time < ?", (limit,)).rowcount  # noqa: S608
        except sqlite3.OperationalError as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        """See ``Store.close``."""
        self._db.close()

    def _read(self, query: str, values: tuple[str, ...]) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            raise self._unavailable(error) from error


class PostgresStore:
    """PostgreSQL by psycopg; a lost connection is opened again by the next call."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s
        parts = urlsplit(url)
        self._name = f"postgresql://{parts.hostname}:{parts.port or 5432}{parts.path}"
        self._db: psycopg.Connection[Any] | None = None

    def _connection(self) -> psycopg.Connection[Any]:
        if self._db is None or self._db.closed:
            # a transaction pooler in between knows no prepared statements
            self._db = psycopg.connect(
                self._url,
                connect_timeout=max(2, math.ceil(self._timeout_s)),
                prepare_threshold=None,
                autocommit=True,
                tcp_user_timeout=int(self._timeout_s * 1000),
                keepalives_idle=10,
            )
            self._db.execute(f"SET statement_timeout = {int(self._timeout_s * 1000)}")
        return self._db

    def _call(self, work: Any) -> Any:
        try:
            return work(self._connection())
        except (pg.InvalidPassword, pg.InvalidAuthorizationSpecification, pg.InsufficientPrivilege) as error:
            raise self._refused(error) from None
        except (pg.UndefinedTable, pg.UndefinedColumn, pg.InvalidColumnReference) as error:
            raise StoreRefused(
                f"POSTURE_DATABASE_URL: {self._name} lacks what schema.sql makes: run psql -f schema.sql ({_line(error)})"
            ) from None
        except psycopg.Error as error:
            text = str(error)
            if self._db is not None and (self._db.closed or self._db.broken):
                self._db = None
            if "password authentication failed" in text or "no password supplied" in text:
                raise self._refused(error) from None
            raise StoreUnavailable(f"database {self._name}: {_line(error)}") from None

    def _refused(self, error: psycopg.Error) -> StoreRefused:
        return StoreRefused(f"POSTURE_DATABASE_URL: {self._name} refuses us: {_line(error)}")

    def write(self, rows: Sequence[Row]) -> set[str]:
        """See ``Store.write``."""
        marks = ", ".join(f"%({name})s" for name in COLUMNS)
        statement = (
            f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES ({marks}) "  # noqa: S608
            "ON CONFLICT (pi_id, frame_id) DO NOTHING RETURNING frame_id"
        )
        values = [{name: getattr(cleaned, name) for name in COLUMNS} for cleaned in map(_clean, rows)]

        def work(db: psycopg.Connection[Any]) -> set[str]:
            inserted: set[str] = set()
            with db.transaction(), db.cursor() as cursor:
                cursor.executemany(statement, values, returning=True)  # pipelined
                for row, result in zip(rows, _results(cursor), strict=True):
                    if result is not None:
                        inserted.add(row.frame_id)
            return inserted

        return set(self._call(work)) if rows else set()

    def counts(self, pi_id: str) -> dict[str, int]:
        """See ``Store.counts``."""
        query = f"SELECT posture_status, count(*) FROM {TABLE} WHERE pi_id = %s GROUP BY 1"  # noqa: S608
        return dict(self._call(lambda db: db.execute(query, (pi_id,)).fetchall()))

    def sequences(self, pi_id: str, boot_id: str) -> tuple[int | None, int | None, int]:
        """See ``Store.sequences``."""
        query = f"SELECT min(seq), max(seq), count(DISTINCT seq) FROM {TABLE} WHERE pi_id = %s AND boot_id = %s"  # noqa: S608
        low, high, number = self._call(lambda db: db.execute(query, (pi_id, boot_id)).fetchone())
        return low, high, number

    def prune(self, older_than: datetime) -> int:
        """See ``Store.prune``."""
        query = f"DELETE FROM {TABLE} WHERE received_time < %s"  # noqa: S608
        return int(self._call(lambda db: db.execute(query, (older_than,)).rowcount))

    def close(self) -> None:
        """See ``Store.close``."""
        if self._db is not None:
            self._db.close()


def _results(cursor: psycopg.Cursor[Any]) -> list[Any]:
    """Return the first row of each result of an executemany, None where there is none."""
    results = [cursor.fetchone()]
    while cursor.nextset():
        results.append(cursor.fetchone())
    return results


class SupabaseStore:
    """Supabase by its own client: REST upsert that ignores duplicates."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._name = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
        options = ClientOptions(postgrest_client_timeout=timeout_s, auto_refresh_token=False, persist_session=False)
        try:
            self._client: Client = create_client(url, key, options)
        except Exception as error:  # noqa: BLE001 - the client's own class has no stable home; the text is ours
            raise StoreRefused(f"POSTURE_DATABASE_URL, POSTURE_SUPABASE_KEY: {type(error).__name__}") from None

    def _call(self, request: Any) -> Any:
        try:
            return request.execute()
        except APIError as error:
            raise self._failure(str(error.code or ""), str(error.message or "")) from None
        except httpx.HTTPError as error:
            raise StoreUnavailable(f"database {self._name}: {type(error).__name__}") from None

    def _failure(self, code: str, message: str) -> Exception:
        if code in ("401", "403", "42501", "PGRST301", "PGRST302"):
            return StoreRefused(f"POSTURE_SUPABASE_KEY: {self._name} refuses it ({code}); accepted: the secret key")
        if code in ("404", "42P01", "42703", "42P10", "PGRST204", "PGRST205"):
            return StoreRefused(f"POSTURE_DATABASE_URL: {self._name} lacks what schema.sql makes: run it ({code})")
        return StoreUnavailable(f"database {self._name}: {code} {message}".strip())

    def write(self, rows: Sequence[Row]) -> set[str]:
        """See ``Store.write``."""
        inserted: set[str] = set()
        sent = {_clean(row).frame_id: row.frame_id for row in rows}
        for start in range(0, len(rows), CHUNK):
            values = [_as_text(row) for row in rows[start : start + CHUNK]]
            request = self._client.table(TABLE).upsert(
                values, on_conflict="pi_id,frame_id", ignore_duplicates=True, default_to_null=True
            )
            inserted |= {sent[row["frame_id"]] for row in self._call(request).data}
        return inserted

    def counts(self, pi_id: str) -> dict[str, int]:
        """See ``Store.counts``."""
        counted = {}
        for status in ("Good", "Bad", "Unknown"):
            query = self._client.table(TABLE).select("frame_id", count="exact").limit(1)  # type: ignore[arg-type]
            answer = self._call(query.eq("pi_id", pi_id).eq("posture_status", status))
            if answer.count:
                counted[status] = answer.count
        return counted

    def sequences(self, pi_id: str, boot_id: str) -> tuple[int | None, int | None, int]:
        """See ``Store.sequences``; a sequence number that has two rows counts twice here."""
        ends: list[int | None] = []
        number = 0
        for descending in (False, True):
            query = self._client.table(TABLE).select("seq", count="exact").eq("pi_id", pi_id).eq("boot_id", boot_id)  # type: ignore[arg-type]
            answer = self._call(query.not_.is_("seq", "null").order("seq", desc=descending).limit(1))
            ends.append(answer.data[0]["seq"] if answer.data else None)
            number = answer.count or 0
        return ends[0], ends[1], number

    def prune(self, older_than: datetime) -> int:
        """See ``Store.prune``."""
        limit = older_than.astimezone(timezone.utc).isoformat()
        request = self._client.table(TABLE).delete(count="exact", returning="minimal")  # type: ignore[arg-type]
        return int(self._call(request.lt("received_time", limit)).count or 0)

    def close(self) -> None:
        """Nothing to release: the client closes its sockets itself."""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
