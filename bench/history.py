#!/usr/bin/env python3
"""How fast a stream with ten million rows answers, and what counting the minutes costs the analyzer's commit.

    .venv/bin/python bench/history.py                      # SQLite and PostgreSQL: a quarter of an hour, 13 GB
    .venv/bin/python bench/history.py --rows 500000 --only sqlite
    .venv/bin/python bench/history.py --data /some/folder  # keeps the databases there, and uses those that are

Ten streams share the table; the one that is asked has the ten million rows, over 30 days, the others a hundred
thousand each. Rows have all columns but the landmarks, whose 2.5 kB stand beside what is read. Each question is
asked once after the database was opened anew, then ``--repeat`` times; the table has the first time and the median,
and what the asking process computed (of SQLite all of it, of PostgreSQL its client).
PostgreSQL is one of its own, with its default settings.

Commits are of 16 rows, as the analyzer's are, into the full table, with the triggers that count the minutes and
without them.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import psycopg
from servers import Postgres, make_cluster, postgres_binaries, server_user

from posture.history.opening import open_history
from posture.settings.flags import whole
from posture.store.base import Row
from posture.store.opening import open_store

START = datetime(2026, 10, 1, tzinfo=timezone.utc)
DAYS = 30
ZONE = ZoneInfo("UTC")
OTHERS, OTHERS_ROWS = 9, 100_000
BATCH, COMMITS = 16, 200
COLUMNS = (
    "pi_id, frame_id, filename, received_time, analyzed_time, captured_time, neck_angle, body_angle, "
    "posture_status, landmarks_detected, processed_by, side, reason, rule_set, schema_version, seq, boot_id, "
    "picture_sha256"
)
# A day has eight hours of somebody who sits, slouching two minutes of ten, and sixteen of nobody.
STATUS = "CASE WHEN {hour} NOT BETWEEN 8 AND 15 THEN 'Unknown' WHEN {minute} % 10 < 2 THEN 'Bad' ELSE 'Good' END"
SQLITE_ROWS = f"""
    INSERT INTO posture_log ({COLUMNS})
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :rows),
    times AS (SELECT n, julianday(:start) + n * :step / 86400 AS at FROM numbers),
    texts AS (
        SELECT n, strftime('%Y-%m-%dT%H:%M:%f000+00:00', at) AS received,
            CAST(strftime('%H', at) AS INTEGER) AS hour, CAST(strftime('%M', at) AS INTEGER) AS minute FROM times
    )
    SELECT :pi_id, printf('%s-%08d-%016x', :pi_id, n, n), printf('%08d.jpg', n), received, received, received,
        12.5, 3.5, {STATUS.format(hour="hour", minute="minute")}, hour BETWEEN 8 AND 15, 'node-1', 'left',
        CASE WHEN hour BETWEEN 8 AND 15 THEN '' ELSE 'no_person' END, 'upright', 2, n, 'boot-1',
        printf('%064x', n) FROM texts
"""  # noqa: S608 - names of ours
POSTGRES_ROWS = f"""
    INSERT INTO posture_log ({COLUMNS})
    SELECT %(pi_id)s::text, format('%%s-%%s', %(pi_id)s::text, lpad(to_hex(n), 24, '0')), format('%%s.jpg', n),
        at, at, at, 12.5, 3.5, {STATUS.format(hour="hour", minute="minute").replace("%", "%%")},
        hour BETWEEN 8 AND 15, 'node-1', 'left',
        CASE WHEN hour BETWEEN 8 AND 15 THEN '' ELSE 'no_person' END, 'upright', 2, n, 'boot-1',
        lpad(to_hex(n), 64, '0')
    FROM (
        SELECT n, at, extract(hour FROM at) AS hour, extract(minute FROM at) AS minute
        FROM (
            SELECT n, %(start)s::timestamptz + n * make_interval(secs => %(step)s::double precision) AS at
            FROM generate_series(%(first)s::bigint, %(end)s::bigint - 1) AS n
        ) AS times
    ) AS parts
"""  # noqa: S608
CHUNK = 1_000_000


def fill_sqlite(url: str, rows: int) -> None:
    """Make and fill the file."""
    open_store(url).close()
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
        db.execute("PRAGMA synchronous = OFF")
        for number in range(OTHERS + 1):
            count = rows if number == 0 else OTHERS_ROWS
            values = {"pi_id": f"pi{number + 1}", "rows": count, "start": START.isoformat(), "step": step_s(count)}
            db.execute(SQLITE_ROWS, values)
            db.commit()


def fill_postgres(url: str, rows: int) -> None:
    """Fill the database."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute((ROOT / "deploy" / "schema" / "schema.sql").read_text())
        db.execute("SET TimeZone = 'UTC'")
        for number in range(OTHERS + 1):
            count = rows if number == 0 else OTHERS_ROWS
            for first in range(0, count, CHUNK):
                values = {"pi_id": f"pi{number + 1}", "start": START, "step": step_s(count), "first": first}
                db.execute(POSTGRES_ROWS, {**values, "end": min(count, first + CHUNK)})
        db.execute("ANALYZE")


def step_s(count: int) -> float:
    """Return the seconds between two frames."""
    return DAYS * 86_400 / count


@contextlib.contextmanager
def postgres(data: Path) -> Iterator[str]:
    """Run a PostgreSQL with its own defaults."""
    binaries, user = postgres_binaries(), server_user()
    if not data.exists():
        make_cluster(data, binaries, user)
    server = Postgres(data, binaries, user)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def questions(url: str, repeat: int) -> None:
    """Ask, and print a line for each question."""
    day, last = START.date() + timedelta(days=12), START.date() + timedelta(days=DAYS - 1)
    now = START + timedelta(days=DAYS + 1)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)

    def figures(days: list[Any]) -> None:
        for each in days:
            _ = each.spent, each.hours, each.sitting, each.bad

    asked: dict[str, Callable[[Any], Any]] = {
        "all streams": lambda history: history.streams(),
        "a day": lambda history: figures([history.day("pi1", day, ZONE, now=now)]),
        "a week": lambda history: figures(history.days("pi1", day, day + timedelta(days=6), ZONE, now=now)),
        "a month": lambda history: figures(history.days("pi1", START.date(), last, ZONE, now=now)),
        "newest 50 rows": lambda history: history.newest("pi1", 50),
        "the frame at a moment": lambda history: history.nearest("pi1", noon),
    }
    for name, question in asked.items():
        taken, worked = [], []
        with contextlib.closing(open_history(url, timeout_s=60)) as history:
            for _ in range(repeat + 1):
                began, work = time.perf_counter(), time.process_time()
                question(history)
                taken.append((time.perf_counter() - began) * 1000)
                worked.append((time.process_time() - work) * 1000)
        median, cpu = statistics.median(taken[1:]), statistics.median(worked[1:])
        print(f"| {name} | {taken[0]:.0f} | {median:.0f} | {cpu:.0f} |", flush=True)
    with contextlib.closing(open_history(url, timeout_s=60)) as history:
        began = time.perf_counter()
        end = noon + timedelta(hours=1)
        count = sum(1 for _ in history.rows("pi1", noon, end))
        print(f"| {count} rows of an hour, as for CSV | {(time.perf_counter() - began) * 1000:.0f} | - | - |")


def commits(url: str, name: str) -> None:
    """Print what a commit of a batch takes."""
    store = open_store(url, timeout_s=60)
    taken = []
    for number in range(COMMITS):
        at = START + timedelta(days=DAYS + 1, seconds=number * BATCH / 5)
        rows = [a_row(f"{name}-{number}-{part}", at + timedelta(seconds=part / 5)) for part in range(BATCH)]
        began = time.perf_counter()
        store.write(rows)
        taken.append((time.perf_counter() - began) * 1000)
    store.close()
    ordered = sorted(taken)
    print(f"| {name} | {statistics.median(taken):.2f} | {ordered[int(0.99 * len(ordered))]:.2f} |", flush=True)


def a_row(frame_id: str, at: datetime) -> Row:
    """Return a row as the analyzer makes it, with landmarks of their usual length."""
    return Row(
        "pi1", frame_id, f"{frame_id}.jpg", at, at, at, 12.5, 3.5, "Good", True, "node-1", "left", "", "upright",
        "[" + "0.123456," * 280 + "0]", 2, 1, "boot-2", "0" * 64,
    )  # fmt: skip


@contextlib.contextmanager
def no_triggers(url: str) -> Iterator[None]:
    """Let rows be written without their minutes, as before there were any."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as db:
            ((made,),) = db.execute(
                "SELECT sql FROM sqlite_master WHERE name = 'posture_minutes_counted'"
            ).fetchall()
            db.execute("DROP TRIGGER posture_minutes_counted")
            # its name stays, so that it is not made again
            db.execute("CREATE VIEW posture_minutes_counted AS SELECT 1")
            yield
            db.execute("DROP VIEW posture_minutes_counted")
            db.execute(made)
        return
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("ALTER TABLE posture_log DISABLE TRIGGER posture_minutes_counted")
        yield
        db.execute("ALTER TABLE posture_log ENABLE TRIGGER posture_minutes_counted")


def measure(url: str, kind: str, repeat: int) -> None:
    """Print both tables."""
    print(f"\n{kind}\n\n| question | first ms | median ms | CPU ms |\n|---|---|---|---|")
    questions(url, repeat)
    print(f"\n| {kind}: commit of {BATCH} rows | median ms | p99 ms |\n|---|---|---|")
    for _ in range(2):
        commits(url, "with minutes")
        with no_triggers(url):
            commits(url, "without")


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=whole, default=10_000_000)
    parser.add_argument("--repeat", type=whole, default=5)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--data", type=Path, help="a folder for the databases, which are kept")
    parser.add_argument("--fill", action="store_true", help="only make the databases")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = flags.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # PostgreSQL's account must get there
        if flags.only != "postgresql":
            path = folder / "posture.db"
            if not path.exists():
                filled(fill_sqlite, f"sqlite:///{path}", "SQLite", flags.rows)
            if not flags.fill:
                measure(f"sqlite:///{path}", "SQLite", flags.repeat)
        if flags.only != "sqlite":
            fresh = not (folder / "postgresql").exists()
            with postgres(folder / "postgresql") as url:
                if fresh:
                    filled(fill_postgres, url, "PostgreSQL", flags.rows)
                if not flags.fill:
                    measure(url, "PostgreSQL", flags.repeat)


def filled(fill: Callable[[str, int], None], url: str, kind: str, rows: int) -> None:
    """Fill a database, and print how long that took."""
    began = time.monotonic()
    fill(url, rows)
    print(f"{kind}: filled in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
