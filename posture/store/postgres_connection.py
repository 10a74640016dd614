"""A connection to PostgreSQL by psycopg 3: opened again when it is lost, each work within a time-out of our own."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from posture.store.base import ACCEPTED_URLS, TABLE, URL_SETTING, StoreRefusedError, StoreUnavailableError

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
Result = TypeVar("Result")

GRACE_S = 0.5
"""The server's own time-out comes first: it says what it was about, and the connection stays."""

KEEPALIVE = ("10", "5", "3", "25000")
"""Seconds until the server asks whether we are still there, seconds between two questions, how many may remain
without an answer, and milliseconds that anything else may. A node that loses its power in the middle of a
transaction leaves its locks behind, and the stream's next analyzer waits for them: with the server's defaults for
up to two hours."""
SETTINGS = """
    SELECT set_config('statement_timeout', %s, true), set_config('TimeZone', 'UTC', true),
        set_config('tcp_keepalives_idle', %s, true), set_config('tcp_keepalives_interval', %s, true),
        set_config('tcp_keepalives_count', %s, true), set_config('tcp_user_timeout', %s, true)"""

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


class PostgresConnection:
    """A lost connection is opened again by the next call. Callers take turns.

    Args:
        url: ``postgresql://...``; a transaction pooler will do.
        timeout_s: bound of connecting, and of each statement, in seconds.

    Attributes:
        name: the server and database, without user and password, for messages.

    Raises:
        StoreRefusedError: the client does not understand the address.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
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
        self.name = f"postgresql://{parts.get('host', '')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
        self._password = str(parts.get("password") or "")
        self._db: Connection | None = None
        self._turn = threading.Lock()
        # it would log a lost connection three times; we log it once
        logging.getLogger("psycopg").setLevel(logging.ERROR)

    def _open(self) -> Connection:
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

    def call(self, work: Callable[[Connection], Result]) -> Result:
        """Run work in a transaction of its own; after any failure the connection is closed.

        Raises:
            StoreUnavailableError: try again later.
            StoreRefusedError: a person must act.
        """
        with self._turn:
            return self._call(work)

    def _call(self, work: Callable[[Connection], Result]) -> Result:
        try:
            db = self._open()
            with _cut_after(db, self._timeout_s + GRACE_S), db.pipeline(), db.transaction():
                # settings of the transaction: those of a session would stay with a pooler's connection
                db.execute(SETTINGS, (str(math.ceil(self._timeout_s * 1000)), *KEEPALIVE))
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
                f"{URL_SETTING}: {self.name}: {text}; the role must own {TABLE}, or be let through row level "
                "security for SELECT, INSERT and DELETE"
            )
        if state[:2] == "28" or (state in {"", "08P01"} and any(sign in text for sign in REFUSALS)):
            return StoreRefusedError(f"{URL_SETTING}: {self.name} refuses us: {text}")
        if state[:2] in SCHEMA_CLASSES:
            return StoreRefusedError(
                f"{URL_SETTING}: {self.name} can't take our rows: {text}; "
                "apply the schema: psql -f deploy/schema/schema.sql"
            )
        return StoreUnavailableError(f"database {self.name}: {text}")

    def close(self) -> None:
        """Close it; the next call opens another."""
        if self._db is not None:
            self._db.close()
            self._db = None


@contextlib.contextmanager
def _cut_after(db: Connection, seconds: float) -> Iterator[None]:
    """Cut the connection if the server has not answered by then: its own time-outs don't bind one that hangs.

    The client library would say that the server had closed it.
    """
    was_cut = threading.Event()

    def cut() -> None:
        was_cut.set()
        with socket.socket(fileno=os.dup(db.fileno())) as connection, contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.Error as error:
        if was_cut.is_set() and not error.sqlstate:
            raise psycopg.OperationalError(f"no answer within {seconds:g} s") from error
        raise
    finally:
        timer.cancel()
        timer.join()  # so that it never meets a descriptor that has been closed and given to another
