"""PostgREST's contract for one table, as Supabase serves it, on a real PostgreSQL under Supabase's roles.

Written after https://docs.postgrest.org/en/v12/references/ (tables_views, preferences, errors): paths, headers,
on_conflict, duplicate handling, Content-Range, error bodies and the status of each SQLSTATE.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg
from psycopg import sql
from servers import free_port

MAX_ROWS = 1_000
"""As Supabase sets it: one answer to a GET holds no more."""
ROLES = """
    CREATE ROLE anon NOLOGIN;
    CREATE ROLE authenticated NOLOGIN;
    CREATE ROLE service_role NOLOGIN BYPASSRLS;
"""
GRANTS = """
    GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
"""
"""What a Supabase project has before anybody makes a table: only row level security holds the public key back."""
STATUS_OF_STATE = (
    ("08", 503), ("23503", 409), ("23505", 409), ("25006", 405), ("25", 500), ("28", 403), ("40", 500), ("53", 503),
    ("54", 500), ("55", 500), ("57P01", 503), ("57", 500), ("58", 500), ("42P01", 404), ("42883", 404), ("XX", 500),
)  # fmt: skip
RESERVED = ("columns", "on_conflict", "select", "order", "limit", "offset")
OPERATORS = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


class PostgRESTError(Exception):
    """An error as PostgREST tells it."""

    def __init__(self, status: int, code: str | None, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "details": None, "hint": hint, "message": message}
        if code is None:  # the gateway before PostgREST has no codes
            self.body = {"message": message, "hint": hint}


class PostgREST:
    """The server; ``keys`` maps each key to the database role that it stands for.

    ``next_answers`` holds (status, content type, body) that are given before anything else is. ``open_gate`` is
    cleared to let requests hang. With ``lose_answers`` a request is carried out, and its connection closed.
    """

    def __init__(self, database_url: str, keys: dict[str, str]) -> None:
        self.database_url, self.keys = database_url, keys
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.next_answers: deque[tuple[int, str, bytes]] = deque()
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.lose_answers = False
        self.connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve."""
        handler = type("Handler", (Handler,), {"farm": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Be away, for connections that stand, too."""
        if self._server is None or self._thread is None:
            return
        self.open_gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server = None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    farm: PostgREST
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.farm.connections.add(self.connection)

    def finish(self) -> None:
        self.farm.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.farm.seen.append((self.command, self.path, dict(self.headers)))
        self.farm.open_gate.wait()
        if self.farm.next_answers:
            status, content_type, answer = self.farm.next_answers.popleft()
            self._answer(status, answer, {"Content-Type": content_type, "Location": self.path})
            return
        try:
            status, rows, total = self._carry_out(body)
        except PostgRESTError as error:
            self._answer(error.status, json.dumps(error.body).encode())
            return
        if self.farm.lose_answers:
            self.close_connection = True
            return
        answer = b"" if rows is None else json.dumps(rows).encode()
        span = f"0-{len(rows) - 1}" if rows and self.command == "GET" else "*"
        self._answer(status, answer, {"Content-Range": f"{span}/{'*' if total is None else total}"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **(headers or {})}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def _role(self) -> str:
        key = self.headers.get("apikey")
        if key is None:
            raise PostgRESTError(401, None, "No API key found in request", "No `apikey` request header was found.")
        if key not in self.farm.keys:
            raise PostgRESTError(401, None, "Invalid API key", "Double check your Supabase API key.")
        if self.headers.get("Authorization") != f"Bearer {key}":
            raise PostgRESTError(401, "PGRST301", "JWSError JWSInvalidSignature")
        return self.farm.keys[key]

    def _carry_out(self, body: bytes) -> tuple[int, list[dict[str, Any]] | None, int | None]:
        role = self._role()
        parts = urlsplit(self.path)
        table = re.fullmatch(r"/rest/v1/(?:(rpc)/)?(\w+)", parts.path)
        if table is None:
            raise PostgRESTError(404, "PGRST125", "Invalid path specified in request URL")
        query = parse_qsl(parts.query, keep_blank_values=True)
        try:
            with psycopg.connect(self.farm.database_url, connect_timeout=30) as db:
                db.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
                if table[1]:
                    return 200, _call_function(db, table[2], json.loads(body)), None
                request = Request(db, table[2], query, self.headers.get("Prefer", ""))
                if self.command == "POST":
                    return request.insert(body)
                return request.delete() if self.command == "DELETE" else request.select()
        except psycopg.Error as error:
            state = error.sqlstate
            if state is None:
                raise PostgRESTError(503, "PGRST000", "Database client error. Retrying the connection.") from None
            status = next((status for start, status in STATUS_OF_STATE if state.startswith(start)), 400)
            if state == "42501":
                status = 401 if role == "anon" else 403
            raise PostgRESTError(status, state, error.diag.message_primary or "") from None


class Request:
    """One request's SQL, in a transaction under the role of its key."""

    def __init__(self, db: psycopg.Connection[Any], table: str, query: list[tuple[str, str]], prefer: str) -> None:
        self._db, self._name, self._prefer = db, table, prefer
        given = {name: value for name, value in query if name in RESERVED}
        self._columns = given.get("columns")
        self._conflict = given.get("on_conflict")
        self._select = given.get("select", "*")
        self._order = given.get("order")
        self._limit = min(int(given.get("limit", MAX_ROWS)), MAX_ROWS)
        self._offset = int(given.get("offset", 0))
        self._filters = [(name, value) for name, value in query if name not in RESERVED]
        self._table = sql.Identifier("public", table)
        self._check_columns()

    def _check_columns(self) -> None:
        present = self._db.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            (f"public.{self._name}",),
        ).fetchall()
        if not present:
            message = f"Could not find the table 'public.{self._name}' in the schema cache"
            raise PostgRESTError(404, "PGRST205", message)
        names = {name for (name,) in present}
        for column in [] if self._columns is None else self._columns.split(","):
            if column.strip('"') not in names:
                message = f"Could not find the {column} column of '{self._name}' in the schema cache"
                raise PostgRESTError(400, "PGRST204", message)
        for column in [] if self._select == "*" else self._select.split(","):
            if column not in names:
                raise PostgRESTError(400, "42703", f"column {self._name}.{column} does not exist")

    def insert(self, body: bytes) -> tuple[int, list[dict[str, Any]] | None, int | None]:
        assert self._columns is not None
        columns = _names(self._columns)
        statement = sql.SQL("INSERT INTO {table} ({columns}) SELECT {columns} FROM ").format(
            table=self._table, columns=columns
        ) + sql.SQL("json_populate_recordset(null::{table}, %s::json)").format(table=self._table)
        if "resolution=ignore-duplicates" in self._prefer:
            assert self._conflict is not None
            statement += sql.SQL(" ON CONFLICT ({}) DO NOTHING").format(_names(self._conflict))
        if "return=representation" not in self._prefer:
            inserted = self._db.execute(statement, (body.decode(),)).rowcount
            return 201, None, self._counted(inserted)
        rows = self._rows(statement + sql.SQL(" RETURNING ") + self._selected(), [body.decode()])
        return 201 if rows else 200, rows, self._counted(len(rows))

    def select(self) -> tuple[int, list[dict[str, Any]], int | None]:
        where, values = self._where()
        total = None
        if "count=exact" in self._prefer:
            count = sql.SQL("SELECT count(*) FROM {}").format(self._table) + where
            total = self._db.execute(count, values).fetchone()[0]
        statement = sql.SQL("SELECT {} FROM {}").format(self._selected(), self._table) + where
        if self._order:
            orders = [
                sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL("DESC" if direction == "desc" else "ASC"))
                for column, _, direction in (order.partition(".") for order in self._order.split(","))
            ]
            statement += sql.SQL(" ORDER BY ") + sql.SQL(", ").join(orders)
        statement += sql.SQL(" LIMIT {} OFFSET {}").format(self._limit, self._offset)
        rows = self._rows(statement, values)
        return 206 if total is not None and len(rows) < total else 200, rows, total

    def delete(self) -> tuple[int, None, int | None]:
        where, values = self._where()
        deleted = self._db.execute(sql.SQL("DELETE FROM {}").format(self._table) + where, values).rowcount
        return 204, None, self._counted(deleted)

    def _counted(self, number: int) -> int | None:
        return number if "count=exact" in self._prefer else None

    def _selected(self) -> sql.Composable:
        return sql.SQL("*") if self._select == "*" else _names(self._select)

    def _rows(self, statement: sql.Composed, values: list[Any]) -> list[dict[str, Any]]:
        wrapped = sql.SQL("WITH source AS (") + statement + sql.SQL(") SELECT row_to_json(source) FROM source")
        return [row for (row,) in self._db.execute(wrapped, values).fetchall()]

    def _where(self) -> tuple[sql.Composed, list[Any]]:
        conditions, values = [], []
        for column, condition in self._filters:
            operator, _, value = condition.partition(".")
            if column == "or":  # of spans: or=(and(column.gte."...",column.lt."..."),and(...))
                spans = [
                    re.findall(r'(\w+)\.(\w+)\."([^"]*)"', span)
                    for span in re.findall(r"and\(([^()]*)\)", condition)
                ]
                both = [
                    sql.SQL(" AND ").join(
                        sql.SQL("{} {} %s").format(sql.Identifier(name), sql.SQL(OPERATORS[compared]))
                        for name, compared, _ in span
                    )
                    for span in spans
                ]
                values += [bound for span in spans for _, _, bound in span]
                conditions.append(sql.SQL("(") + sql.SQL(" OR ").join(both) + sql.SQL(")"))
            elif condition == "not.is.null":
                conditions.append(sql.SQL("{} IS NOT NULL").format(sql.Identifier(column)))
            elif operator == "in":
                items = re.findall(r'"((?:[^"\\]|\\.)*)"|([^,()]+)', value)
                values.append([re.sub(r"\\(.)", r"\1", quoted) or plain for quoted, plain in items])
                conditions.append(sql.SQL("{} = ANY(%s)").format(sql.Identifier(column)))
            else:
                values.append(value)
                conditions.append(sql.SQL("{} {} %s").format(sql.Identifier(column), sql.SQL(OPERATORS[operator])))
        return (sql.SQL(" WHERE ") if conditions else sql.SQL("")) + sql.SQL(" AND ").join(conditions), values


def _call_function(db: psycopg.Connection[Any], name: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """A function that returns rows, its arguments by name."""
    given = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(key), value) for key, value in sorted(arguments.items())
    )
    call = sql.SQL("SELECT row_to_json(found) FROM {}({}) AS found").format(sql.Identifier("public", name), given)
    try:
        return [row for (row,) in db.execute(call).fetchall()]
    except psycopg.errors.UndefinedFunction:
        message = f"Could not find the function public.{name} in the schema cache"
        raise PostgRESTError(404, "PGRST202", message) from None


def _names(listed: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name.strip('"')) for name in listed.split(","))
