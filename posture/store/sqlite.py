"""Rows in an embedded SQLite file: WAL, synced at every commit."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from posture.store.base import (
    COLUMNS,
    TABLE,
    URL_SETTING,
    Row,
    StoreRefusedError,
    StoreUnavailableError,
    as_text,
    clean_key,
    cleaned,
)
from posture.store.sqlite_minutes import keep_minutes

TYPES = {
    "neck_angle": "REAL",
    "body_angle": "REAL",
    "landmarks_detected": "INTEGER",
    "schema_version": "INTEGER",
    "seq": "INTEGER",
}
"""Every other column is TEXT."""
PRUNE_ROWS = 5_000
FILE_MODE = 0o640
"""Rows are about people: for the owner and the group."""
RETRY_S = 0.01

INSERT = f"""
    INSERT INTO {TABLE} ({", ".join(COLUMNS)}) VALUES ({", ".join(f":{name}" for name in COLUMNS)})
    ON CONFLICT (pi_id, frame_id) DO NOTHING
"""  # noqa: S608 - names of ours
DIGESTS = f"SELECT frame_id, picture_sha256 FROM {TABLE} WHERE pi_id = ?"  # noqa: S608
COUNTS = f"SELECT posture_status, count(*) FROM {TABLE} WHERE pi_id = ? GROUP BY 1"  # noqa: S608
SEQUENCES = f"SELECT min(seq), max(seq), count(DISTINCT seq) FROM {TABLE} WHERE pi_id = ? AND boot_id = ?"  # noqa: S608
# The index serves the first comparison; the second is exact for the times of the first deployments, too, which may
# be written with a space.
PRUNE = f"""
    DELETE FROM {TABLE} WHERE rowid IN (
        SELECT rowid FROM {TABLE}
        WHERE received_time < :limit AND julianday(received_time) < julianday(:limit) LIMIT :rows
    )
"""  # noqa: S608
DELETE = f"DELETE FROM {TABLE} WHERE rowid IN (SELECT rowid FROM {TABLE} WHERE pi_id = ? LIMIT ?)"  # noqa: S608


@contextlib.contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Say in the store's own errors what goes wrong with a file meanwhile.

    Raises:
        StoreUnavailableError: it can't be read or written now.
        StoreRefusedError: it is no database that we can use.
    """
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(f"database {path}: {error.strerror}") from error
    except sqlite3.OperationalError as error:
        raise StoreUnavailableError(f"database {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreRefusedError(f"{URL_SETTING}: {path} is no database that we can use: {error}") from error


class SqliteStore:
    """An embedded database file.

    Args:
        path: the file; it and its folder are made if they are not there.
        timeout_s: how long a write waits for another process's.

    Raises:
        StoreUnavailableError: the folder or the file can't be written now.
        StoreRefusedError: the file is no database that we can use.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self.columns: Sequence[str] = COLUMNS
        self._path, self._timeout_s = path, timeout_s
        self._db, self._file = self._open()

    def _open(self) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
        with errors_of(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _make_private(self._path)
            db = sqlite3.connect(self._path, timeout=self._timeout_s, check_same_thread=False, isolation_level=None)
            try:
                _use_wal(db, self._timeout_s)
                db.execute("PRAGMA synchronous = FULL")
                _migrate(db)
            except sqlite3.Error:
                db.close()
                raise
        return db, _identity(self._path)

    def write(self, rows: Sequence[Row]) -> set[str]:
        """See ``Store.write``. All of the rows are one transaction."""
        if _identity(self._path) != self._file:
            # the file was deleted or replaced: what is written to the old one would be lost
            self._db.close()
            self._db, self._file = self._open()
        inserted: set[str] = set()
        with errors_of(self._path), _transaction(self._db):
            for row in rows:
                values = cleaned(row)
                texts = {name: as_text(value) for name, value in values.items() if isinstance(value, datetime)}
                if self._db.execute(INSERT, {**values, **texts}).rowcount == 1:
                    inserted.add(row.frame_id)
        return inserted

    def digests(self, pi_id: str, frame_ids: Sequence[str]) -> dict[str, str | None]:
        """See ``Store.digests``."""
        ids = {clean_key(frame_id): frame_id for frame_id in frame_ids}
        query = f"{DIGESTS} AND frame_id IN ({', '.join('?' * len(ids))})"
        return {ids[found]: digest for found, digest in self._rows(query, clean_key(pi_id), *ids)}

    def counts(self, pi_id: str) -> dict[str, int]:
        """See ``Store.counts``."""
        return dict(self._rows(COUNTS, clean_key(pi_id)))

    def sequences(self, pi_id: str, boot_id: str) -> tuple[int | None, int | None, int]:
        """See ``Store.sequences``."""
        low, high, number = self._rows(SEQUENCES, clean_key(pi_id), clean_key(boot_id))[0]
        return low, high, number

    def _rows(self, query: str, *values: str) -> list[Any]:
        with errors_of(self._path):
            return self._db.execute(query, values).fetchall()

    def prune(self, older_than: datetime) -> int:
        """See ``Store.prune``."""
        deadline = time.monotonic() + self._timeout_s
        values = {"limit": as_text(older_than), "rows": PRUNE_ROWS}
        total = 0
        while True:
            with errors_of(self._path):
                deleted = self._db.execute(PRUNE, values).rowcount
            total += deleted
            if deleted < PRUNE_ROWS or time.monotonic() > deadline:
                return total

    def delete(self, pi_id: str) -> int:
        """See ``Store.delete``."""
        total = 0
        while True:
            with errors_of(self._path):
                deleted = self._db.execute(DELETE, (clean_key(pi_id), PRUNE_ROWS)).rowcount
            total += deleted
            if not deleted:
                return total

    def close(self) -> None:
        """See ``Store.close``."""
        self._db.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _make_private(path: Path) -> None:
    """Make the file if it is not there, and shut others out; SQLite gives its journals the same permissions."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))
    status = path.stat()
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & stat.S_IRWXO:
        path.chmod(stat.S_IMODE(status.st_mode) & FILE_MODE)


def _use_wal(db: sqlite3.Connection, timeout_s: float) -> None:
    """Switch the file to WAL. If another process does so, too, SQLite gives up at once, whatever its time-out."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


def _migrate(db: sqlite3.Connection) -> None:
    """Make the table, or add what a table of the first deployments lacks; its rows stay as they are."""
    columns = {name: f"{name} {TYPES.get(name, 'TEXT')}" for name in COLUMNS}
    with _transaction(db):
        db.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({', '.join(columns.values())})")
        present = {row[1] for row in db.execute(f"PRAGMA table_info({TABLE})")}
        for name in COLUMNS:
            if name not in present:
                db.execute(f"ALTER TABLE {TABLE} ADD COLUMN {columns[name]}")
        # old rows have no frame_id; nulls are distinct
        db.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {TABLE}_frame ON {TABLE} (pi_id, frame_id)")
        db.execute(f"CREATE INDEX IF NOT EXISTS {TABLE}_boot ON {TABLE} (pi_id, boot_id, seq)")
        db.execute(f"CREATE INDEX IF NOT EXISTS {TABLE}_received ON {TABLE} (received_time)")
        db.execute(f"CREATE INDEX IF NOT EXISTS {TABLE}_stream ON {TABLE} (pi_id, received_time)")
        keep_minutes(db)


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
