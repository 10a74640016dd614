"""One contract, three stores: SQLite, PostgreSQL, and Supabase (PostgREST's contract on a real PostgreSQL)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
import pytest
from servers import Postgres
from supabase_server import GRANTS, ROLES, PostgREST
from watching import wait_for

from posture.store import postgres as store_postgres
from posture.store.base import LATER_COLUMNS, Row, Store, StoreRefusedError, StoreUnavailableError
from posture.store.opening import open_store
from posture.store.postgres_connection import PostgresConnection

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = (ROOT / "deploy" / "schema" / "schema.sql").read_text()
SECRET_KEY, PUBLIC_KEY = "sb_secret_Zx81-the_farm", "sb_publishable_everybody"
NOON = datetime(2026, 11, 24, 12, 0, 0, 123400, tzinfo=timezone.utc)
LEGACY = """
    CREATE TABLE posture_log (
        pi_id text, filename text, received_time {time}, analyzed_time {time}, neck_angle {real} NOT NULL,
        body_angle {real} NOT NULL, posture_status text, landmarks_detected boolean, processed_by text
    );
    INSERT INTO posture_log VALUES
        ('pi1', 'a.jpg', '2025-03-01 10:00:00', '2025-03-01 10:00:01', 12.5, 3.5, 'Good', true, 'old-host'),
        ('pi1', 'a.jpg', '2025-03-01 10:00:00', '2025-03-01 10:00:01', 12.5, 3.5, 'Good', true, 'old-host');
"""


def a_row(number: int = 0, **changes: Any) -> Row:
    row = Row(
        pi_id="pi1",
        frame_id=f"frame-{number}",
        filename=f"frame-{number}.jpg",
        received_time=NOON + timedelta(seconds=number),
        analyzed_time=NOON + timedelta(seconds=number, milliseconds=40),
        captured_time=NOON + timedelta(seconds=number, milliseconds=-200),
        neck_angle=12.25,
        body_angle=3.5,
        posture_status="Good",
        landmarks_detected=True,
        processed_by="host-a",
        side="left",
        reason="",
        rule_set="upright",
        landmarks=json.dumps([[320.5, 240.1, 0.99]] * 33),
        schema_version=1,
        seq=number,
        boot_id="boot-1",
    )
    return replace(row, **changes)


@dataclass
class Backend:
    """A place for rows, with a way around the store to look into it."""

    url: str
    setting: str
    database: str
    """SQLite's path, or PostgreSQL's URL."""
    key: str | None = None
    server: PostgREST | None = None
    opened: list[Store] = field(default_factory=list)

    def open(self, timeout_s: float = 20.0) -> Store:
        self.opened.append(open_store(self.url, key=self.key, timeout_s=timeout_s))
        return self.opened[-1]

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        connect = psycopg.connect if self.database.startswith("postgresql") else sqlite3.connect
        with contextlib.closing(connect(self.database)) as db:
            return db.execute(statement).fetchall()

    def ids(self) -> list[str]:
        return [frame_id for (frame_id,) in self.query("SELECT frame_id FROM posture_log ORDER BY frame_id")]


def apply(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(statements)


@contextlib.contextmanager
def supabase_on(url: str, schema: str = SCHEMA) -> Iterator[PostgREST]:
    """Serve a database as a Supabase project does; roles belong to the whole cluster, so they may be there."""
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        apply(url, ROLES)
    apply(url, GRANTS + schema)
    server = PostgREST(url, {SECRET_KEY: "service_role", PUBLIC_KEY: "anon"})
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql", "supabase"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty store of each kind."""
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            path = tmp_path / "data" / "posture.db"
            made = Backend(f"sqlite:///{path}", "POSTURE_DATABASE_URL", str(path))
        else:
            made = stack.enter_context(remote(request.param, request.getfixturevalue("database")))
        yield made
        for store in made.opened:
            store.close()


@contextlib.contextmanager
def remote(kind: str, url: str, schema: str = SCHEMA) -> Iterator[Backend]:
    if kind == "postgresql":
        apply(url, schema)
        yield Backend(url, "POSTURE_DATABASE_URL", url)
    else:
        with supabase_on(url, schema) as server:
            yield Backend(server.url, "POSTURE_SUPABASE_KEY", url, SECRET_KEY, server)


def test_a_frame_is_one_row_however_often_it_is_written(backend: Backend) -> None:
    store, other = backend.open(), backend.open()
    assert store.write([a_row(1), a_row(2)]) == {"frame-1", "frame-2"}
    assert store.write([a_row(2), a_row(3)]) == {"frame-3"}
    assert other.write([a_row(1), a_row(2), a_row(3)]) == set()
    assert backend.ids() == ["frame-1", "frame-2", "frame-3"]


def test_a_row_that_is_there_stays_as_it_is(backend: Backend) -> None:
    store = backend.open()
    store.write([a_row(1)])
    store.write([a_row(1, posture_status="Bad", processed_by="host-b")])
    assert backend.query("SELECT posture_status, processed_by FROM posture_log") == [("Good", "host-a")]


def test_two_cameras_may_use_the_same_frame_id(backend: Backend) -> None:
    store = backend.open()
    store.write([a_row(1)])
    assert store.write([a_row(1, pi_id="pi2")]) == {"frame-1"}
    assert backend.ids() == ["frame-1", "frame-1"]


def test_a_frame_twice_in_one_batch_is_one_row(backend: Backend) -> None:
    assert backend.open().write([a_row(1), a_row(1)]) == {"frame-1"}
    assert backend.ids() == ["frame-1"]


def test_nothing_to_write_is_no_error(backend: Backend) -> None:
    assert backend.open().write([]) == set()


def test_writers_of_the_same_rows_at_once_make_each_row_once_and_none_fails(backend: Backend) -> None:
    def write(seed: int) -> list[str]:
        store = open_store(backend.url, key=backend.key, timeout_s=20)
        rows = [a_row(number) for number in range(120)]
        random.Random(seed).shuffle(rows)
        written = [frame_id for start in range(0, 120, 30) for frame_id in store.write(rows[start : start + 30])]
        store.close()
        return written

    with ThreadPoolExecutor(4) as pool:
        written = [frame_id for part in pool.map(write, range(4)) for frame_id in part]
    assert sorted(written) == backend.ids() == sorted(f"frame-{number}" for number in range(120))


FULL = a_row(
    7, neck_angle=-0.1 + 0.2, seq=2**40, reason="neck", posture_status="Bad", picture_sha256="aa",
    measured_frame_id="frame-6",
)  # fmt: skip
EMPTY = a_row(
    8, captured_time=None, neck_angle=None, body_angle=None, posture_status="Unknown", landmarks_detected=False,
    side="", reason="no_person", landmarks=None, seq=None, boot_id=None, filename="",
)  # fmt: skip


@pytest.mark.parametrize("row", [FULL, EMPTY], ids=["every field", "no optional field"])
def test_every_field_comes_back_as_it_was(backend: Backend, row: Row) -> None:
    backend.open().write([row])
    names = [entry.name for entry in fields(Row)]
    (stored,) = backend.query(f"SELECT {', '.join(names)} FROM posture_log")  # noqa: S608
    as_read = dict(zip(names, stored, strict=True))
    for name in ("received_time", "analyzed_time", "captured_time"):
        if isinstance(as_read[name], str):
            as_read[name] = datetime.fromisoformat(as_read[name])
    assert as_read == {name: getattr(row, name) for name in names}


def test_analyzers_that_make_the_sqlite_file_at_once_all_get_it(tmp_path: Path) -> None:
    def write(at: tuple[int, int]) -> None:
        store = open_store(f"sqlite:///{tmp_path}/{at[0]}.db", key="", timeout_s=20)
        store.write([a_row(at[1])])
        store.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [(file, number) for file in range(100) for number in range(4)]))
    for file in range(100):
        backend = Backend("", "", f"{tmp_path}/{file}.db")
        assert backend.query("SELECT count(*) FROM posture_log") == [(4,)]


def test_sqlite_keeps_times_in_utc_and_iso_8601(tmp_path: Path) -> None:
    backend = Backend(f"sqlite:///{tmp_path}/posture.db", "", f"{tmp_path}/posture.db")
    local = timezone(timedelta(hours=2))
    backend.open().write([a_row(0, received_time=datetime(2026, 11, 24, 14, 0, tzinfo=local))])
    assert backend.query("SELECT received_time FROM posture_log") == [("2026-11-24T12:00:00.000000+00:00",)]


NASTY = {
    "nul": "a\x00b",
    "what replaces nul": "a\ufffdb",
    "half a surrogate pair": "a\ud800b",
    "emoji": "🧍🏽‍♀️",
    "quotes": "'; DROP TABLE posture_log; -- \"\\",
    "percent": "%s %(frame_id)s {} $1 ?",
    "commas and parentheses": "in.(a,b),\"c\"",
    "line breaks": "a\r\nb\tc",
    "a megabyte": "long " * 200_000,
    "another megabyte": "long " * 200_000 + ".",
    "empty": "",
}  # fmt: skip


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_any_text_can_be_written_in_any_column(backend: Backend, text: str) -> None:
    store = backend.open()
    columns = {entry.name: text for entry in fields(Row) if entry.type in ("str", "str | None")}
    assert store.write([a_row(1), a_row(2, **columns), a_row(3)]) == {"frame-1", text, "frame-3"}
    assert store.write([a_row(2, **columns)]) == set()
    assert store.sequences(text, text) == (2, 2, 1)
    assert len(backend.ids()) == 3


def test_texts_that_must_be_changed_stay_different_frames(backend: Backend) -> None:
    store = backend.open()
    rows = [a_row(number, frame_id=text) for number, text in enumerate(NASTY.values())]
    assert store.write(rows) == set(NASTY.values())
    assert len(set(backend.ids())) == len(NASTY)


def test_numbers_and_times_that_no_store_has_become_null(backend: Backend) -> None:
    store = backend.open()
    east, west = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
    rows = [
        a_row(1, neck_angle=math.nan, body_angle=math.inf, seq=2**63, schema_version=2**31),
        a_row(2, neck_angle=-math.inf, body_angle=math.nan, seq=-(2**80), schema_version=-(2**40)),
        a_row(3, captured_time=datetime.min.replace(tzinfo=east), neck_angle=None, body_angle=None, seq=None),
        a_row(4, captured_time=datetime.max.replace(tzinfo=west), neck_angle=None, body_angle=None, seq=None),
    ]
    assert len(store.write(rows)) == 4
    assert backend.query("SELECT neck_angle, body_angle, seq FROM posture_log") == [(None, None, None)] * 4
    assert backend.query("SELECT frame_id FROM posture_log WHERE captured_time IS NULL ORDER BY 1") == [
        ("frame-3",),
        ("frame-4",),
    ]


def test_the_earliest_and_the_latest_time_and_integer_can_be_written(backend: Backend) -> None:
    first, last = datetime.min.replace(tzinfo=timezone.utc), datetime.max.replace(tzinfo=timezone.utc)
    rows = [a_row(1, captured_time=first, seq=-(2**63)), a_row(2, captured_time=last, seq=2**63 - 1)]
    store = backend.open()
    assert len(store.write(rows)) == 2
    assert store.sequences("pi1", "boot-1") == (-(2**63), 2**63 - 1, 2)


def test_ten_thousand_rows_are_written_in_parts_of_a_sensible_size(backend: Backend) -> None:
    store = backend.open(timeout_s=60)
    started = time.monotonic()
    assert len(store.write([a_row(number) for number in range(10_000)])) == 10_000
    assert time.monotonic() - started < 180
    assert store.counts("pi1") == {"Good": 10_000}
    if backend.server is not None:
        sizes = [int(headers["Content-Length"]) for method, _, headers in backend.server.seen if method == "POST"]
        assert len(sizes) >= 20
        assert max(sizes) < 2_000_000


def test_counts_are_by_status_of_one_stream(backend: Backend) -> None:
    store = backend.open()
    assert store.counts("pi1") == {}
    statuses = ["Good", "Bad", "Good", "Unknown", "Good"]
    store.write([a_row(number, posture_status=status) for number, status in enumerate(statuses)])
    store.write([a_row(9, pi_id="pi2")])
    assert store.counts("pi1") == {"Good": 3, "Bad": 1, "Unknown": 1}


def test_sequences_are_those_of_one_boot_of_one_stream(backend: Backend) -> None:
    store = backend.open()
    assert store.sequences("pi1", "boot-1") == (None, None, 0)
    store.write([a_row(number) for number in (3, 4, 9)])
    store.write([a_row(20, boot_id="boot-2"), a_row(30, pi_id="pi2"), a_row(40, seq=None)])
    assert store.sequences("pi1", "boot-1") == (3, 9, 3)
    assert store.sequences("pi1", "boot-2") == (20, 20, 1)


def test_a_sequence_number_that_two_frames_share_counts_once(backend: Backend) -> None:
    store = backend.open()
    store.write([a_row(0), a_row(1), a_row(2, seq=1)])
    assert store.sequences("pi1", "boot-1") == (0, 1, 2)


def test_present_are_those_frames_of_a_stream_that_have_a_row(backend: Backend) -> None:
    store = backend.open()
    odd, long = 'a "quoted", (odd) one\\', "x" * 2000
    names = ["plain", odd, long, *(f"frame-{number}" for number in range(50))]
    store.write([a_row(number, frame_id=name) for number, name in enumerate(names)])
    store.write([a_row(60, pi_id="pi2", frame_id="another's")])
    assert set(store.digests("pi1", [*names, "another's", "nowhere"])) == set(names)
    assert store.digests("pi1", ["nowhere"]) == {}


def test_digests_are_those_of_the_pictures_that_the_rows_were_written_with(backend: Backend) -> None:
    store = backend.open()
    store.write([a_row(1, picture_sha256="aa"), a_row(2)])
    store.write([a_row(1, picture_sha256="bb")])
    assert store.digests("pi1", ["frame-1", "frame-2"]) == {"frame-1": "aa", "frame-2": None}


LACKING = "; ".join(f"ALTER TABLE posture_log DROP COLUMN {name}" for name in reversed(LATER_COLUMNS))


@pytest.mark.parametrize("kind", ["postgresql", "supabase"])
def test_a_table_of_an_earlier_version_that_we_may_not_change_serves_and_the_log_says_what_it_lacks(
    kind: str, login: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.ExitStack() as stack:
        if kind == "postgresql":
            apply(database, "CREATE POLICY farm ON posture_log TO analyzer USING (true) WITH CHECK (true)")
            apply(database, "GRANT INSERT, SELECT, DELETE ON posture_log TO analyzer;" + LACKING)
            store = open_store(login)
        else:
            server = stack.enter_context(supabase_on(database, SCHEMA + ";" + LACKING))
            store = open_store(server.url, key=SECRET_KEY)
        assert store.write([a_row(1, picture_sha256="aa")]) == {"frame-1"}
        assert store.digests("pi1", ["frame-1", "nowhere"]) == {"frame-1": None}
        assert "picture_sha256" in caplog.text
        assert "no_picture" in caplog.text
        assert "every frame is measured" in caplog.text
        assert not LATER_COLUMNS.keys() & set(store.columns)
        assert "schema.sql" in caplog.text
        store.close()


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"], indirect=True)
def test_a_table_of_an_earlier_version_gains_the_column_where_we_may_change_it(backend: Backend) -> None:
    backend.open().write([a_row(1)])
    with contextlib.closing(
        (psycopg if backend.database.startswith("postgresql") else sqlite3).connect(backend.database)
    ) as db:
        for statement in LACKING.split(";"):
            db.execute(statement)
        db.commit()
    store = backend.open()
    later = a_row(2, picture_sha256="aa", no_picture="unchanged", measured_frame_id="frame-1")
    assert store.write([later]) == {"frame-2"}
    assert store.digests("pi1", ["frame-1", "frame-2"]) == {"frame-1": None, "frame-2": "aa"}
    assert backend.query("SELECT frame_id, measured_frame_id FROM posture_log ORDER BY 1") == [
        ("frame-1", None),
        ("frame-2", "frame-1"),
    ]


def test_prune_deletes_what_was_received_before_and_nothing_else(backend: Backend) -> None:
    store = backend.open()
    store.write([a_row(number, pi_id=f"pi{number % 2}") for number in range(10)])
    assert store.prune(NOON + timedelta(seconds=4)) == 4
    assert backend.ids() == [f"frame-{number}" for number in range(4, 10)]
    assert store.prune(NOON + timedelta(seconds=4)) == 0


@pytest.mark.parametrize("apart_s", [1, 0], ids=["one after the other", "all at the same moment"])
def test_prune_takes_small_steps_and_gets_through(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, apart_s: int
) -> None:
    for module in ("sqlite", "postgres", "supabase"):
        monkeypatch.setattr(f"posture.store.{module}.PRUNE_ROWS", 30)
    store = backend.open(timeout_s=20)
    store.write([a_row(number, received_time=NOON + timedelta(seconds=number * apart_s)) for number in range(100)])
    store.write([a_row(2000)])
    assert store.prune(NOON + timedelta(seconds=1500)) == 100
    assert backend.ids() == ["frame-2000"]


@pytest.mark.parametrize("apart_s", [1, 0], ids=["one after the other", "all at the same moment"])
def test_delete_takes_all_rows_of_one_stream_in_small_steps(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, apart_s: int
) -> None:
    for module in ("sqlite", "postgres", "supabase"):
        monkeypatch.setattr(f"posture.store.{module}.PRUNE_ROWS", 30)
    store = backend.open(timeout_s=20)
    store.write([a_row(number, received_time=NOON + timedelta(seconds=number * apart_s)) for number in range(100)])
    store.write([a_row(2000, pi_id="pi2")])
    assert store.delete("pi1") == 100
    assert backend.ids() == ["frame-2000"]
    assert backend.query("SELECT DISTINCT pi_id FROM posture_minutes") == [("pi2",)]
    assert store.delete("pi1") == 0


@pytest.fixture(params=["sqlite that another process locks", "postgresql", "supabase", "supabase without database"])
def breakable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Backend, Any, Any]]:
    """A store, a way to take it away, and one to bring it back."""
    kind = request.param.split()[0]
    if kind == "sqlite":
        path = tmp_path / "posture.db"
        locker = sqlite3.connect(path, isolation_level=None)
        yield (
            Backend(f"sqlite:///{path}", "", str(path)),
            lambda: locker.execute("BEGIN EXCLUSIVE"),
            lambda: locker.execute("ROLLBACK"),
        )
        locker.close()
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    with remote(kind, postgres.url) as backend:
        if request.param == "supabase":
            assert backend.server is not None
            yield backend, backend.server.stop, backend.server.start
        else:
            yield backend, postgres.stop, postgres.start


Result = TypeVar("Result")


def at_last(act: Callable[[], Result]) -> Result:
    """Act as an analyzer does, again after each failure: a busy machine misses a short time-out."""
    for _ in range(20):
        with contextlib.suppress(StoreUnavailableError):
            return act()
    return act()


def written_at_last(store: Store, rows: list[Row]) -> set[str]:
    return at_last(lambda: store.write(rows))


def test_a_store_that_is_away_is_unavailable_and_the_same_object_writes_when_it_is_back(
    breakable: tuple[Backend, Any, Any],
) -> None:
    backend, take_away, bring_back = breakable
    store = at_last(lambda: backend.open(timeout_s=1))
    written_at_last(store, [a_row(1)])
    take_away()
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="database"):
            store.write([a_row(1), a_row(2)])
        assert time.monotonic() - started < 30
    bring_back()
    # frame-1 was written by this object before, and came with the batch that failed: it is still this object's
    assert written_at_last(store, [a_row(1), a_row(2)]) >= {"frame-2"}
    assert backend.ids() == ["frame-1", "frame-2"]
    store.close()


def test_a_store_that_is_away_at_the_start_is_unavailable(breakable: tuple[Backend, Any, Any]) -> None:
    backend, take_away, bring_back = breakable
    take_away()
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="database"):
        backend.open(timeout_s=1)
    assert time.monotonic() - started < 30
    bring_back()
    assert backend.open().write([a_row(1)]) == {"frame-1"}


@contextlib.contextmanager
def frozen(backend: Backend) -> Iterator[None]:
    """A server that takes connections and says nothing."""
    if backend.server is not None:
        backend.server.open_gate.clear()
        yield
        backend.server.open_gate.set()
        return
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
    sessions = f"SELECT pid {others} AND backend_type = 'client backend'"
    found: list[tuple[Any, ...]] = []

    def one_is_left() -> bool:  # those that are closed go a little later, that of the last question among them
        found[:] = backend.query(sessions)
        return len(found) == 1

    wait_for(one_is_left)
    ((session,),) = found
    os.kill(session, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(session, signal.SIGCONT)


@pytest.mark.parametrize("backend", ["postgresql", "supabase"], indirect=True)
def test_a_server_that_hangs_is_unavailable_after_the_time_out(backend: Backend) -> None:
    store = at_last(lambda: backend.open(timeout_s=1))
    written_at_last(store, [a_row(1)])
    with frozen(backend):
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=r"no answer within 1\.5 s|ReadTimeout"):
            store.write([a_row(2)])
        assert 0.9 < time.monotonic() - started < 30
    written_at_last(store, [a_row(2)])
    assert backend.ids() == ["frame-1", "frame-2"]


@contextlib.contextmanager
def row_held(url: str, row: Row) -> Iterator[None]:
    """Another session is about to insert this frame: whoever inserts it, too, waits."""
    with psycopg.connect(url) as db:
        db.execute("INSERT INTO posture_log (pi_id, frame_id) VALUES (%s, %s)", (row.pi_id, row.frame_id))
        yield
        db.rollback()


@pytest.mark.parametrize("backend", ["postgresql", "supabase"], indirect=True)
def test_what_an_attempt_that_failed_has_written_counts_as_written_at_the_next(backend: Backend) -> None:
    rows = [a_row(number, frame_id=f"{number:04}, \"é\"") for number in range(700)]  # fmt: skip
    store = at_last(lambda: backend.open(timeout_s=3))
    other = a_row(1, frame_id=rows[1].frame_id, processed_by="host-b")
    assert backend.open().write([other]) == {other.frame_id}
    with row_held(backend.database, rows[-1]):
        for _ in range(20):  # on a busy machine its first part may take too long, too
            with pytest.raises(StoreUnavailableError, match=r"[Tt]imeout|no answer within"):
                store.write(rows)  # its first part is committed, its last one is not
            if len(backend.ids()) > 1:
                break
    assert len(backend.ids()) > 1
    assert written_at_last(store, rows) == {row.frame_id for row in rows} - {other.frame_id}
    for _ in range(20):
        with contextlib.suppress(StoreUnavailableError):
            assert store.write(rows) == set()
            break
        written_at_last(store, rows)  # the attempt that failed has made them unsure once more
    else:
        pytest.fail("it was never there for two attempts in a row")
    assert len(backend.ids()) == 700


def test_rows_whose_commit_was_not_answered_count_as_written_at_the_next_attempt(database: str) -> None:
    with remote("supabase", database) as backend:
        assert backend.server is not None
        store = backend.open()
        backend.server.lose_answers = True
        with pytest.raises(StoreUnavailableError):
            store.write([a_row(1), a_row(2)])
        backend.server.lose_answers = False
        assert backend.ids() == ["frame-1", "frame-2"]
        assert store.write([a_row(1), a_row(2)]) == {"frame-1", "frame-2"}


PASSWORD = "pa:ss/wörd@%41"  # noqa: S105 - of a server of this test


def with_login(url: str, password: str, role: str = "analyzer") -> str:
    return url.replace("farm@", f"{role}:{quote(password, safe='')}@")


@pytest.fixture
def login(database: str) -> Iterator[str]:
    """The URL of a database for a role that has a password and no rights."""
    apply(database, f"{SCHEMA}; CREATE ROLE analyzer LOGIN PASSWORD '{PASSWORD}'")
    yield with_login(database, PASSWORD)
    apply(database, "DROP OWNED BY analyzer; DROP ROLE analyzer")


def test_a_wrong_password_is_refused_by_naming_the_setting_and_not_the_password(login: str, database: str) -> None:
    apply(database, "ALTER TABLE posture_log OWNER TO analyzer")
    assert open_store(login).write([a_row(1)]) == {"frame-1"}
    for url in (with_login(database, "guess-1234"), with_login(database, "guess-1234", role="nobody-here")):
        with pytest.raises(StoreRefusedError, match="POSTURE_DATABASE_URL") as caught:
            open_store(url)
        assert "guess" not in str(caught.value)
    apply(database, "ALTER TABLE posture_log OWNER TO farm")


def test_a_wrong_key_is_refused_by_naming_the_setting_and_not_the_key(database: str) -> None:
    with supabase_on(database) as server:
        for key in ("sb_secret_guess", "guess with\nline", "guessé"):
            with pytest.raises(StoreRefusedError, match="POSTURE_SUPABASE_KEY") as caught:
                open_store(server.url, key=key)
            assert "guess" not in str(caught.value)
        open_store(server.url, key=f"{SECRET_KEY}\n").close()


def test_the_public_key_is_refused_at_the_start(database: str) -> None:
    with supabase_on(database) as server:
        with pytest.raises(StoreRefusedError, match="POSTURE_SUPABASE_KEY"):
            open_store(server.url, key=PUBLIC_KEY)
        open_store(server.url, key=SECRET_KEY).close()


@pytest.mark.parametrize("role", ["anon", "authenticated", "public"])
def test_schema_sql_leaves_the_roles_of_the_public_key_no_right_at_all(role: str, database: str) -> None:
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        apply(database, ROLES)
    apply(database, GRANTS + SCHEMA)
    # as a table of an older schema.sql has them
    apply(database, f"GRANT ALL ON posture_log TO {role}; GRANT SELECT (pi_id) ON posture_log TO {role}")
    apply(database, SCHEMA)
    with psycopg.connect(database) as db:
        rights = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
        asked = "has_table_privilege(%(role)s, 'posture_log', %(rights)s)"
        asked += ", has_any_column_privilege(%(role)s, 'posture_log', 'SELECT, INSERT, UPDATE, REFERENCES')"
        asked += ", has_table_privilege(%(role)s, 'posture_minutes', %(rights)s)"
        assert db.execute(f"SELECT {asked}", {"role": role, "rights": rights}).fetchone() == (False,) * 3
        ours = "SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'posture%%'"
        functions = [name for (name,) in db.execute(ours)]
        assert len(functions) == 8
        for function in functions:
            may = db.execute("SELECT has_function_privilege(%s, %s, 'EXECUTE')", (role, function)).fetchone()
            assert may == (False,), function


def test_row_level_security_hides_the_rows_where_somebody_grants_the_public_key_all_rights(database: str) -> None:
    with supabase_on(database) as server:
        apply(database, "GRANT ALL ON posture_log TO anon")
        secret, public = (open_store(server.url, key=key) for key in (SECRET_KEY, PUBLIC_KEY))
        secret.write([a_row(1)])
        assert public.counts("pi1") == {}
        assert public.prune(NOON + timedelta(days=1)) == 0
        with pytest.raises(StoreRefusedError, match="POSTURE_SUPABASE_KEY"):
            public.write([a_row(2)])
        assert secret.counts("pi1") == {"Good": 1}


def test_a_key_that_is_revoked_meanwhile_is_refused(database: str) -> None:
    with supabase_on(database) as server:
        store = open_store(server.url, key=SECRET_KEY)
        server.keys.clear()
        with pytest.raises(StoreRefusedError, match="POSTURE_SUPABASE_KEY"):
            store.write([a_row(1)])


@pytest.mark.parametrize("policy", ["", "CREATE POLICY writes ON posture_log FOR INSERT WITH CHECK (true)"],
                         ids=["no policy", "a policy for INSERT alone"])  # fmt: skip
@pytest.mark.parametrize("kind", ["postgresql", "supabase"])
def test_a_role_that_may_not_read_is_refused(kind: str, policy: str, login: str, database: str) -> None:
    apply(database, f"{policy}; GRANT INSERT, SELECT ON posture_log TO analyzer")
    with contextlib.ExitStack() as stack:
        if kind == "postgresql":
            store = open_store(login)
        else:
            server = stack.enter_context(supabase_on(database))
            apply(database, "GRANT ALL ON posture_log TO anon")  # as Supabase does for a table that is made there
            store = open_store(server.url, key=PUBLIC_KEY)
        with pytest.raises(StoreRefusedError, match=r"POSTURE_(DATABASE_URL|SUPABASE_KEY)"):
            store.write([a_row(1)])
        store.close()


def test_a_role_with_policies_for_all_that_we_do_writes(login: str, database: str) -> None:
    apply(database, "CREATE POLICY farm ON posture_log TO analyzer USING (true) WITH CHECK (true)")
    apply(database, "GRANT INSERT, SELECT, DELETE ON posture_log TO analyzer")
    store = open_store(login)
    assert store.write([a_row(1)]) == {"frame-1"}
    assert store.prune(NOON + timedelta(days=1)) == 1
    store.close()


@pytest.mark.parametrize("kind", ["postgresql", "supabase"])
def test_a_missing_table_is_refused_and_the_advice_is_schema_sql(kind: str, database: str) -> None:
    with remote(kind, database, schema="") as backend:
        with pytest.raises(StoreRefusedError, match=r"POSTURE_DATABASE_URL.*schema\.sql"):
            backend.open()
        apply(database, SCHEMA)
        store = backend.open()
        apply(database, "DROP TABLE posture_log")
        with pytest.raises(StoreRefusedError, match=r"POSTURE_DATABASE_URL.*schema\.sql"):
            store.write([a_row(1)])
        store.close()


def test_an_older_schema_sql_on_supabase_is_refused_and_the_advice_is_to_run_it_again(database: str) -> None:
    with remote("supabase", database, schema=SCHEMA) as backend:
        apply(database, "DROP FUNCTION posture_log_sequences")
        store = backend.open()
        with pytest.raises(StoreRefusedError, match=r"posture_log_sequences.*run deploy/schema/schema\.sql"):
            store.sequences("pi1", "boot-1")
        store.close()


@pytest.mark.parametrize("change", ["DROP INDEX posture_log_frame", "ALTER TABLE posture_log DROP COLUMN seq",
                                    "ALTER TABLE posture_log ADD CHECK (posture_status != 'Good')"],
                         ids=["no unique index", "a column lacks", "a constraint of somebody's"])  # fmt: skip
@pytest.mark.parametrize("kind", ["postgresql", "supabase"])
def test_a_table_that_cannot_take_our_rows_is_refused_and_the_advice_is_schema_sql(
    kind: str, change: str, database: str
) -> None:
    with remote(kind, database) as backend:
        store = backend.open()
        apply(database, change)
        with pytest.raises(StoreRefusedError, match=r"POSTURE_DATABASE_URL.*schema\.sql"):
            store.write([a_row(1)])
        store.close()


def test_a_table_of_the_first_deployments_keeps_its_rows_and_takes_new_ones(backend: Backend) -> None:
    if backend.database.startswith("postgresql"):
        apply(backend.database, "DROP TABLE posture_log" + ";" + LEGACY.format(time="timestamptz", real="float8"))
        if backend.server is not None:
            with pytest.raises(StoreRefusedError, match=r"schema\.sql"):
                backend.open()
        apply(backend.database, SCHEMA)
    else:
        Path(backend.database).parent.mkdir()
        with contextlib.closing(sqlite3.connect(backend.database)) as db:
            db.executescript(LEGACY.format(time="text", real="real").replace(" NOT NULL", ""))
    old = (
        "SELECT pi_id, filename, received_time, neck_angle, posture_status FROM posture_log WHERE frame_id IS NULL"
    )
    with contextlib.suppress(sqlite3.OperationalError):
        assert len(backend.query(old)) == 2
    store = backend.open()
    before = backend.query(old)
    assert store.write([a_row(1), a_row(1), EMPTY]) == {"frame-1", EMPTY.frame_id}
    assert store.counts("pi1") == {"Good": 3, "Unknown": 1}
    assert backend.query(old) == before
    assert len(before) == 2
    assert store.prune(datetime(2025, 3, 1, 9, 30, tzinfo=timezone.utc)) == 0
    assert store.prune(datetime(2025, 3, 1, 10, 30, tzinfo=timezone.utc)) == 2
    assert backend.ids() == ["frame-1", EMPTY.frame_id]


@pytest.mark.parametrize("times", ["timestamptz", "timestamp", "text"])
def test_postgresql_completes_a_table_of_the_first_deployments_that_it_owns(database: str, times: str) -> None:
    apply(database, LEGACY.format(time=times, real="float8"))
    with psycopg.connect(database, autocommit=True) as db:
        before = db.execute("SELECT * FROM posture_log").fetchall()
        store = open_store(database)
        assert store.write([a_row(1)]) == {"frame-1"}
        assert [row[:9] for row in db.execute("SELECT * FROM posture_log WHERE frame_id IS NULL")] == before
        stored = db.execute("SELECT received_time::timestamptz FROM posture_log WHERE frame_id IS NOT NULL")
        assert stored.fetchone() == (NOON + timedelta(seconds=1),)
        assert store.prune(NOON) == 2
    store.close()


def test_postgresql_says_schema_sql_when_it_may_not_complete_a_table(login: str, database: str) -> None:
    apply(database, "DROP TABLE posture_log;" + LEGACY.format(time="timestamptz", real="float8"))
    apply(database, "GRANT ALL ON posture_log TO analyzer")
    with pytest.raises(StoreRefusedError, match=r"POSTURE_DATABASE_URL.*schema\.sql.*frame_id"):
        open_store(login)


def test_schema_sql_may_be_applied_again_and_has_the_columns_of_a_row(database: str) -> None:
    for _ in range(2):
        apply(database, SCHEMA)
    types = {"double precision": "double precision", "timestamp with time zone": "timestamptz"}
    with psycopg.connect(database) as db:
        found = db.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'posture_log'"
        )
        columns = {name: types.get(kind, kind) for name, kind in found}
        assert columns == {entry.name: store_postgres.TYPES.get(entry.name, "text") for entry in fields(Row)}
        secured = db.execute("SELECT relrowsecurity FROM pg_class WHERE relname = 'posture_log'")
        assert secured.fetchone() == (True,)


JSON, TEXT, HTML = "application/json", "text/plain", "text/html"
AWAY, REFUSED = StoreUnavailableError, StoreRefusedError
ANSWERS: dict[str, tuple[int, str, str, type[Exception], str]] = {
    "gateway time-out": (504, HTML, "<html>504</html>", AWAY, "504"),
    "project paused": (540, HTML, "paused", AWAY, "540"),
    "too many requests": (429, JSON, '{"message": "slow down"}', AWAY, "slow down"),
    "request time-out": (408, TEXT, "", AWAY, "408"),
    "statement time-out": (500, JSON, '{"code": "57014", "message": "canceled"}', AWAY, "57014"),
    "read-only for now": (405, JSON, '{"code": "25006", "message": "read-only"}', AWAY, "25006"),
    "disk full": (503, JSON, '{"code": "53100", "message": "no space"}', AWAY, "no space"),
    "deadlock": (409, JSON, '{"code": "40P01", "message": "deadlock"}', AWAY, "40P01"),
    "conflict of a proxy": (409, TEXT, "conflict", AWAY, "409"),
    "conflict with a constraint": (409, JSON, '{"code": "23505", "message": "dup"}', REFUSED, "schema.sql"),
    "a portal's page as success": (200, HTML, "<html>log in</html>", AWAY, "is not Supabase"),
    "a proxy's JSON as success": (200, JSON, '{"ok": true}', AWAY, "is not Supabase"),
    "redirect": (301, TEXT, "", REFUSED, "redirects"),
    "wrong path": (404, TEXT, "nothing here", REFUSED, "POSTURE_DATABASE_URL"),
    "payload too large": (413, TEXT, "", REFUSED, "413"),
    "unpaid": (402, JSON, '{"message": "quota exceeded"}', REFUSED, "quota is used up"),
    "expired token": (401, JSON, '{"code": "PGRST301", "message": "JWT expired"}', REFUSED, "SUPABASE_KEY"),
}  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_what_supabase_answers_is_never_taken_for_a_commit(
    answer: tuple[int, str, str, type[Exception], str], database: str
) -> None:
    status, content_type, body, expected, text = answer
    with remote("supabase", database) as backend:
        assert backend.server is not None
        store = backend.open()
        backend.server.next_answers.append((status, content_type, body.encode()))
        with pytest.raises(expected, match=text):
            store.write([a_row(1)])
        assert backend.ids() == []
        assert store.write([a_row(1)]) == {"frame-1"}
        store.close()


def test_supabase_gets_what_its_contract_asks_for_and_sends_only_ids_back(database: str) -> None:
    with remote("supabase", database) as backend:
        assert backend.server is not None
        store = backend.open()
        store.write([a_row(1)])
        method, path, headers = backend.server.seen[-1]
        assert method == "POST"
        assert path.startswith("/rest/v1/posture_log?")
        assert "on_conflict=pi_id%2Cframe_id" in path
        assert "select=pi_id%2Cframe_id" in path
        sent = {name.lower(): value for name, value in headers.items()}
        assert sent["apikey"] == SECRET_KEY
        assert sent["authorization"] == f"Bearer {SECRET_KEY}"
        assert "resolution=ignore-duplicates" in sent["prefer"]
        store.close()


@pytest.mark.parametrize("url", ["mysql://root:hush@host/db", "sqlite://posture.db", "sqlite:///", "",
                                 "postgresql://farm:hush@host:port/db", "postgresql://farm:hush@host/db?nonsense=1",
                                 "https://user:hush@", "mysql://root:1234/hush@host/db", "mysql://root:1#hush@host",
                                 "postgresql://farm:p@hush@host/db", "postgresql://farm:12/hush@host/db",
                                 "postgresql://farm:p@@hush/hush@host:5432/db"])  # fmt: skip
def test_an_address_of_no_store_is_refused_by_naming_the_setting_and_no_secret(url: str) -> None:
    with pytest.raises(StoreRefusedError, match="POSTURE_DATABASE_URL") as caught:
        open_store(url, key="hush" if url.startswith("https") else None)
    assert "hush" not in str(caught.value)


def test_a_password_whose_signs_are_percent_encoded_is_taken_as_it_is(login: str, database: str) -> None:
    apply(database, "ALTER ROLE analyzer PASSWORD 'p@:/?#%'; GRANT SELECT ON posture_log TO analyzer")
    open_store(with_login(database, "p@:/?#%")).close()


@pytest.mark.parametrize("url", ["http://supabase.example", "http://192.0.2.1:8000", "http://localhost.example",
                                 "http://127.0.0.1@supabase.example", "http://supabase.example/@127.0.0.1",
                                 "http://supabase.example#@localhost"])  # fmt: skip
def test_a_supabase_key_never_goes_unencrypted_to_another_machine(url: str) -> None:
    with pytest.raises(StoreRefusedError, match="unencrypted") as caught:
        open_store(url, key=SECRET_KEY, timeout_s=0.5)
    assert SECRET_KEY not in str(caught.value)


def test_supabase_without_a_key_is_refused_by_naming_the_setting() -> None:
    with pytest.raises(StoreRefusedError, match="POSTURE_SUPABASE_KEY"):
        open_store("https://project.example")


def test_sqlite_is_synced_at_every_commit(tmp_path: Path) -> None:
    path = tmp_path / "posture.db"
    store = open_store(str(path))
    store.write([a_row(0)])
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # type: ignore[attr-defined]  # FULL
    store.close()


def test_sqlite_rows_outlive_a_process_that_is_killed_after_the_write(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; sys.path[:0] = sys.argv[2:]\n"
        "from test_store import a_row; from posture.store.opening import open_store\n"
        "open_store(sys.argv[1]).write([a_row(1)]); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "posture.db"
    command = [
        sys.executable,
        "-c",
        script,
        f"sqlite:///{path}",
        str(Path(__file__).parent),
        *sys.path,
    ]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT frame_id FROM posture_log").fetchall() == [("frame-1",)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=False, capture_output=True
        ).returncode
    ):
        yield folder
        return
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_sqlite_on_a_full_disk_is_unavailable_and_writes_when_there_is_room(small_disk: Path) -> None:
    store = open_store(f"sqlite:///{small_disk}/posture.db")
    filler = small_disk / "filler"
    if os.path.ismount(small_disk):
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    else:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
        store._db.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]
    rows = [a_row(number, landmarks="x" * 10_000) for number in range(20)]
    with pytest.raises(StoreUnavailableError, match=r"posture\.db.*(full|I/O)"):
        store.write(rows)
    assert store.counts("pi1") == {}
    filler.unlink(missing_ok=True)
    if not os.path.ismount(small_disk):
        store._db.execute("PRAGMA max_page_count = 100000")  # type: ignore[attr-defined]
    assert len(store.write(rows)) == 20
    store.close()


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write what is read-only; another user may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("made_before", [True, False], ids=["the file", "the folder"])
def test_sqlite_that_is_read_only_is_unavailable_and_says_which_file(tmp_path: Path, made_before: bool) -> None:
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "posture.db"
    if made_before:
        open_store(str(path)).close()
        path.chmod(0o444)
    folder.chmod(0o555)
    with as_nobody(), pytest.raises(StoreUnavailableError, match=f"{path}"):
        open_store(str(path))
    folder.chmod(0o755)


def test_a_file_that_is_no_database_is_refused_by_naming_the_setting_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, " * 500)
    with pytest.raises(StoreRefusedError, match=r"POSTURE_DATABASE_URL: .*notes\.txt"):
        open_store(f"sqlite:///{path}")
    assert path.read_text() == "these are my notes, " * 500


def test_a_database_that_is_deleted_under_the_analyzer_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "posture.db"
    store = open_store(str(path))
    store.write([a_row(1)])
    for file in tmp_path.glob("posture.db*"):
        file.unlink()
    assert store.write([a_row(2)]) == {"frame-2"}
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT frame_id FROM posture_log").fetchall() == [("frame-2",)]
    store.close()


def test_a_pooler_between_may_change_the_connection_at_any_time(database: str) -> None:
    """Nothing stays in the session: neither prepared statements nor settings."""
    apply(database, SCHEMA)
    store = open_store(database)
    for number in range(8):
        store.write([a_row(number)])
    session = store._connection._db  # type: ignore[attr-defined]
    assert session.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    assert session.execute("SHOW statement_timeout").fetchone() == ("0",)
    store.close()


def test_an_sqlite_file_is_not_for_others_on_the_machine_even_if_it_was(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = tmp_path / "posture.db"
        for _ in range(2):
            store = open_store(f"sqlite:///{path}")
            store.write([a_row()])
            files = list(tmp_path.iterdir())
            assert len(files) > 1, "with its journal"
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o640}
            store.close()
            path.chmod(0o644)  # as an earlier version left it
    finally:
        os.umask(before)


def test_postgresql_gives_up_a_transaction_whose_client_has_vanished(database: str) -> None:
    """As a node does that loses its power: the server asks after 10 s, and again, and what was locked is free."""
    connection = PostgresConnection(database, timeout_s=60)
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    asked = "SELECT " + ", ".join(f"current_setting('{name}')" for name in (*names, "tcp_user_timeout"))
    idle, interval, count, unanswered = connection.call(lambda db: db.execute(asked).fetchone())
    assert 0 < int(idle) + int(interval) * int(count) <= 30
    assert int(unanswered) <= 30_000
    connection.close()
