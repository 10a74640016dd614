"""What the history says, compared with a plain count over the rows, second by second."""

from __future__ import annotations

import contextlib
import csv
import io
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from supabase_server import GRANTS, ROLES, PostgREST

from posture.errors import UserError
from posture.history.as_csv import lines
from posture.history.days import parse_day, zone_of
from posture.history.deletion import Deleted, delete_stream
from posture.history.minutes import HOLD_S
from posture.history.opening import open_history
from posture.history.questions import Day, History, UnknownStreamError
from posture.history.stretches import BREAK_S
from posture.settings.paths import pictures_of, quarantine_of
from posture.settings.table import Analyzer
from posture.store.base import LATER_COLUMNS, Row, Store, StoreRefusedError, StoreUnavailableError
from posture.store.opening import open_store

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = (ROOT / "deploy" / "schema" / "schema.sql").read_text()
SECRET_KEY = "sb_secret_Zx81-the_farm"  # noqa: S105 - of a server of this test
UTC = ZoneInfo("UTC")
MIDNIGHT = datetime(2026, 11, 24, tzinfo=timezone.utc)
LATER = MIDNIGHT + timedelta(days=400)
TODAY = date(2026, 11, 24)


def a_row(number: int, at: datetime, status: str = "Good", **changes: Any) -> Row:
    row = Row(
        pi_id="pi1", frame_id=f"frame-{number}", filename=f"{number}.jpg", received_time=at,
        analyzed_time=at + timedelta(milliseconds=40), captured_time=at, neck_angle=12.0, body_angle=3.5,
        posture_status=status, landmarks_detected=True, processed_by="host-a", side="left", reason="",
        rule_set="upright", landmarks="[]", schema_version=2, seq=number, boot_id="boot-1",
    )  # fmt: skip
    return replace(row, **changes)


def nobody(number: int, at: datetime) -> Row:
    return a_row(
        number, at, "Unknown", landmarks_detected=False, reason="no_person", neck_angle=None, body_angle=None
    )


@dataclass(frozen=True)
class Place:
    """Where rows are."""

    url: str
    database: str
    """SQLite's path, or PostgreSQL's URL."""
    key: str | None = None

    def execute(self, statements: str) -> None:
        if self.database.startswith("postgresql"):
            with psycopg.connect(self.database, autocommit=True) as db:
                db.execute(statements)
        else:
            with contextlib.closing(sqlite3.connect(self.database)) as db:
                db.executescript(statements)


@pytest.fixture(params=["sqlite", "postgresql", "supabase"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        path = str(tmp_path / "posture.db")
        yield Place(f"sqlite:///{path}", path)
        return
    address: str = request.getfixturevalue("database")
    if request.param == "postgresql":
        place = Place(address, address)
        place.execute(SCHEMA)
        yield place
        return
    server = PostgREST(address, {SECRET_KEY: "service_role"})
    place = Place(server.url, address, SECRET_KEY)
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        place.execute(ROLES)
    place.execute(GRANTS + SCHEMA)
    server.start()
    yield place
    server.stop()


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with contextlib.closing(open_store(place.url, key=place.key, timeout_s=60)) as opened:
        yield opened


@pytest.fixture
def history(store: Store, place: Place) -> Iterator[History]:
    with contextlib.closing(open_history(place.url, key=place.key, timeout_s=60)) as opened:
        yield opened


def every(seconds: float, start: datetime, length: float, status: str, first: int = 0) -> list[Row]:
    return [
        a_row(first + number, start + timedelta(seconds=number * seconds), status)
        for number in range(round(length / seconds))
    ]


# The plain count.

LETTERS = {"Good": "G", "Bad": "B"}


def letter(row: Row) -> str:
    if row.posture_status in LETTERS:
        return LETTERS[row.posture_status]
    if row.landmarks_detected:
        return "U"
    return "A" if row.reason == "no_person" else ""


def moment(row: Row) -> datetime:
    given, received = row.captured_time, row.received_time
    near = given is not None and received - timedelta(days=7) <= given <= received + timedelta(minutes=1)
    return given if near and given is not None else received


def states(rows: list[Row], start: datetime, end: datetime) -> list[set[str]]:
    """The states of each second, with those that a frame speaks for."""
    length = int((end - start).total_seconds())
    own: dict[int, set[str]] = {}
    for row in rows:
        if letter(row):
            own.setdefault(int((moment(row) - start).total_seconds() // 1), set()).add(letter(row))
    filled: list[set[str]] = []
    last = -HOLD_S - 1
    for second in range(-HOLD_S, length):
        last = second if second in own else last
        if second >= 0:
            filled.append(own[last] if last in own and second - last <= HOLD_S else set())
    return filled


def shares(rows: list[Row], start: datetime, end: datetime) -> dict[str, float]:
    """Seconds of each state: those of a minute are divided as its frames are."""
    filled = states(rows, start, end)
    spent = dict.fromkeys("GBUA", 0.0) | {"": 0.0}
    letters: dict[int, list[str]] = {}
    for row in rows:
        letters.setdefault((moment(row) - start) // timedelta(minutes=1), []).extend(letter(row))
    last: list[str] = []
    for minute in range(-1, len(filled) // 60):
        last = letters.get(minute) or last
        if minute < 0:
            continue
        covered = sum(bool(state) for state in filled[minute * 60 : minute * 60 + 60])
        spent[""] += 60 - covered
        for name in "GBUA":
            spent[name] += covered * last.count(name) / max(1, len(last))
    return spent


def sitting(filled: list[set[str]]) -> list[tuple[int, int]]:
    spans: list[list[int]] = []
    for second, state in enumerate(filled):
        if state - {"A"}:
            if spans and second - spans[-1][1] < BREAK_S:
                spans[-1][1] = second + 1
            else:
                spans.append([second, second + 1])
    return [(first, last) for first, last in spans]


def slouches(filled: list[set[str]]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    began = ended = None
    good = unlike = 0
    for second, state in enumerate([*filled, *([set()] * 60)]):
        is_bad = "B" in state and "G" not in state
        good = good + 1 if "G" in state and "B" not in state else 0
        unlike = 0 if is_bad else unlike + 1
        if began is not None and ended is not None and (good >= 5 or unlike >= 15):
            spans.append((began, ended))
            began = None
        if is_bad:
            began, ended = second if began is None else began, second + 1
    return [(first, last) for first, last in spans if last - first >= 3]


def random_rows(seed: int) -> list[Row]:
    """Hours of somebody who sits, slouches, leaves; of a camera that pauses, is slow, late, or has no clock."""
    chance = random.Random(seed)
    rows: list[Row] = []
    at = MIDNIGHT - timedelta(minutes=5)
    while at < MIDNIGHT + timedelta(hours=3) and len(rows) < 1500:
        kind = chance.choice(["Good", "Bad", "Unknown", "away", "flicker", "broken", "gap"])
        length = chance.choice([2, 4, 7, 20, 90, 400])
        step = chance.choice([0.2, 1.0, 3.0, 9.7, 14.0]) if length < 90 else chance.choice([1.0, 9.7])
        end = at + timedelta(seconds=length)
        while at < end:
            at += timedelta(seconds=step * chance.uniform(0.7, 1.3))
            number = len(rows)
            if kind == "gap":
                continue
            row = a_row(number, at, chance.choice(["Good", "Bad"]) if kind == "flicker" else kind)
            if kind == "away":
                row = nobody(number, at)
            elif kind == "broken":
                row = replace(nobody(number, at), reason="truncated")
            late = timedelta(seconds=chance.choice([0, 0, 0.3, 4000]))
            taken = chance.choice([at, at, at, None, at - timedelta(days=3000), at + timedelta(days=1)])
            if taken != at:
                late = timedelta()
            rows.append(replace(row, received_time=at + late, captured_time=taken))
    chance.shuffle(rows)
    return rows


def as_spans(stretches: list[Any], day: Day) -> list[tuple[int, int]]:
    return [
        (int((each.start - day.start).total_seconds()), int((each.end - day.start).total_seconds()))
        for each in stretches
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_days_figures_are_those_of_a_plain_count_over_its_rows(history: History, store: Store, seed: int) -> None:
    rows = random_rows(seed)
    for start in range(0, len(rows), 100):
        store.write(rows[max(0, start - 10) : start + 100])  # some of them again
    day = history.day("pi1", TODAY, UTC, now=LATER)
    spent = shares(rows, day.start, day.end)
    assert day.spent.good_s == pytest.approx(spent["G"])
    assert day.spent.bad_s == pytest.approx(spent["B"])
    assert day.spent.unknown_s == pytest.approx(spent["U"])
    assert day.spent.away_s == pytest.approx(spent["A"])
    assert day.spent.no_frames_s == pytest.approx(spent[""])
    filled = states(rows, day.start, day.end)
    assert as_spans(day.sitting, day) == sitting(filled)
    assert as_spans(day.bad, day) == slouches(filled)
    wanted = {row.frame_id for row in rows if day.start <= moment(row) < day.end}
    got = [row["frame_id"] for row in history.rows("pi1", day.start, day.end)]
    assert len(got) == len(wanted)
    assert set(got) == wanted


def test_a_day_says_how_long_somebody_sat_well_and_badly_and_what_each_slouch_was(
    history: History, store: Store
) -> None:
    nine = MIDNIGHT + timedelta(hours=9)
    store.write(every(1, nine, 1800, "Good"))
    store.write(every(1, nine + timedelta(minutes=30), 600, "Bad", 10_000))
    store.write([nobody(20_000 + second, nine + timedelta(seconds=2400 + second)) for second in range(600)])
    store.write(every(1, nine + timedelta(minutes=50), 600, "Good", 30_000))
    day = history.day("pi1", TODAY, UTC, now=LATER)
    assert (day.spent.good_s, day.spent.bad_s, day.spent.away_s) == (2400 + HOLD_S, 600, 600)
    assert day.spent.score == pytest.approx(0.8, abs=0.001)
    assert day.spent.total_s == 86_400
    assert [(stretch.start, stretch.duration_s) for stretch in day.bad] == [(nine + timedelta(minutes=30), 600)]
    assert [stretch.duration_s for stretch in day.sitting] == [2400, 600 + HOLD_S]
    assert day.longest is not None
    assert (day.longest.duration_s, day.breaks) == (2400, 1)
    assert [round(hour.sitting_s) for hour in day.hours][9] == 3000
    at_nine = day.minutes[540]
    assert (at_nine.start, at_nine.frames, at_nine.neck) == (nine, 60, 12.0)


def test_a_gap_in_frames_is_not_time_that_somebody_was_seen(history: History, store: Store) -> None:
    store.write([a_row(1, MIDNIGHT), a_row(2, MIDNIGHT + timedelta(hours=1))])
    assert history.day("pi1", TODAY, UTC, now=LATER).spent.sitting_s == 2 * (HOLD_S + 1)


def test_what_is_yet_to_come_of_today_is_no_gap(history: History, store: Store) -> None:
    store.write(every(1, MIDNIGHT, 90, "Good"))
    day = history.day("pi1", TODAY, UTC, now=MIDNIGHT + timedelta(seconds=90))
    assert (day.spent.good_s, day.spent.total_s, len(day.minutes)) == (90, 90, 2)


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (date(2026, 3, 29), "Europe/Berlin", 23),
        (date(2026, 10, 25), "Europe/Berlin", 25),
        (date(2026, 11, 24), "Asia/Kolkata", 24),
        (date(2018, 11, 4), "America/Sao_Paulo", 23),  # midnight is skipped
    ],
)
def test_a_day_is_the_viewers_with_23_or_25_hours_where_the_clock_is_changed(
    history: History, store: Store, day: date, zone: str, hours: int
) -> None:
    there = ZoneInfo(zone)
    start = datetime(day.year, day.month, day.day, tzinfo=there).astimezone(timezone.utc)
    store.write([a_row(number, start + timedelta(hours=number, minutes=1)) for number in range(-1, 26)])
    (asked, after) = history.days("pi1", day, day + timedelta(days=1), there, now=LATER)
    assert (asked.start, asked.end) == (start, start + timedelta(hours=hours))
    assert after.start == asked.end
    assert sum(minute.frames for minute in asked.minutes) == hours
    assert sum(hour.sitting_s for hour in asked.hours) == pytest.approx(asked.spent.sitting_s)
    got = [row["frame_id"] for row in history.rows("pi1", asked.start, asked.end)]
    assert got == [f"frame-{number}" for number in range(hours)]


def test_an_unknown_stream_is_told_with_those_that_are_known_and_a_day_without_frames_is_empty(
    history: History, store: Store
) -> None:
    with pytest.raises(UnknownStreamError, match="database has no rows"):
        history.day("pi1", TODAY, UTC)
    store.write([a_row(number, MIDNIGHT, pi_id=pi_id) for number, pi_id in enumerate(["pi10", "pi2", "a\x1bb"])])
    with pytest.raises(UnknownStreamError, match="stream pi3 has no rows; accepted: a b, pi2, pi10"):
        history.day("pi3", TODAY, UTC)
    assert [stream.pi_id for stream in history.streams()] == ["a\x1bb", "pi2", "pi10"]
    empty = history.day("pi2", date(2026, 1, 1), UTC, now=LATER)
    assert not empty.has_frames
    assert (empty.spent.no_frames_s, empty.spent.score, empty.longest, empty.bad) == (86_400, None, None, [])
    with pytest.raises(UserError, match="accepted: 1 to"):
        history.days("pi2", TODAY, date(2026, 1, 1), UTC)


def test_frames_are_found_by_age_by_id_and_by_the_moment(history: History, store: Store) -> None:
    store.write([a_row(number, MIDNIGHT + timedelta(seconds=10 * number)) for number in range(50)])
    assert [row["frame_id"] for row in history.newest("pi1", 2)] == ["frame-49", "frame-48"]
    row = history.frame("pi1", "frame-7")
    assert row is not None
    assert (row["landmarks"], row["captured_time"]) == ("[]", MIDNIGHT + timedelta(seconds=70))
    assert history.frame("pi1", "nowhere") is None
    near = history.nearest("pi1", MIDNIGHT + timedelta(seconds=74))
    assert near is not None
    assert near["frame_id"] == "frame-7"
    assert history.nearest("pi1", MIDNIGHT + timedelta(hours=2)) is None


def test_rows_of_one_moment_are_each_given_once_over_pages(
    history: History, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posture.history.questions.PAGE_ROWS", 7)
    store.write([a_row(number, MIDNIGHT + timedelta(seconds=number // 20)) for number in range(100)])
    got = [row["frame_id"] for row in history.rows("pi1", MIDNIGHT, LATER)]
    assert sorted(got) == sorted(f"frame-{number}" for number in range(100))


def test_deletion_takes_rows_and_minutes_of_one_stream_alone(history: History, store: Store) -> None:
    store.write([a_row(1, MIDNIGHT), a_row(2, MIDNIGHT + timedelta(hours=1)), a_row(1, MIDNIGHT, pi_id="pi2")])
    assert history.delete("pi1") == 2
    assert [stream.pi_id for stream in history.streams()] == ["pi2"]
    assert history.newest("pi1", 9) == []
    assert history.delete("pi1") == 0


def test_minutes_go_with_their_rows_when_retention_takes_these(history: History, store: Store) -> None:
    store.write([a_row(1, MIDNIGHT), a_row(2, MIDNIGHT + timedelta(hours=1))])
    store.prune(MIDNIGHT + timedelta(minutes=5))
    day = history.day("pi1", TODAY, UTC, now=LATER)
    assert [minute.start for minute in day.minutes if minute.frames] == [MIDNIGHT + timedelta(hours=1)]


def test_a_database_of_an_earlier_version_gets_its_minutes_and_keeps_its_rows(place: Place, store: Store) -> None:
    rows = random_rows(7)
    store.write(rows)
    with contextlib.closing(open_history(place.url, key=place.key)) as history:
        before = history.day("pi1", TODAY, UTC, now=LATER)
    on = " ON posture_log" if place.database.startswith("postgresql") else ""
    place.execute(f"DROP TRIGGER posture_minutes_counted{on}; DROP TRIGGER posture_minutes_gone{on};"
                  "DROP TABLE posture_minutes")  # fmt: skip
    if on:
        place.execute(SCHEMA)
    with contextlib.closing(open_history(place.url, key=place.key)) as history:
        after = history.day("pi1", TODAY, UTC, now=LATER)
    assert after.seconds == before.seconds
    assert [minute.frames for minute in after.minutes] == [minute.frames for minute in before.minutes]
    assert after.spent.bad_s == pytest.approx(before.spent.bad_s)
    assert sum(store.counts("pi1").values()) == len(rows)


def test_a_table_without_a_later_column_is_read_without_it(place: Place, store: Store) -> None:
    store.write([a_row(1, MIDNIGHT)])
    place.execute("; ".join(f"ALTER TABLE posture_log DROP COLUMN {name}" for name in LATER_COLUMNS))
    with contextlib.closing(open_history(place.url, key=place.key)) as history:
        (row,) = history.newest("pi1", 5)
        assert {name: row[name] for name in LATER_COLUMNS} == dict.fromkeys(LATER_COLUMNS)
        assert row["frame_id"] == "frame-1"
        assert history.frame("pi1", "frame-1") == {**row, "landmarks": "[]"}
        assert len(list(lines(history.rows("pi1", MIDNIGHT, LATER)))) == 2


@pytest.mark.parametrize("place", ["postgresql", "supabase"], indirect=True)
def test_without_what_schema_sql_makes_rows_are_written_and_the_history_says_what_to_run(place: Place) -> None:
    place.execute("DROP TRIGGER posture_minutes_counted ON posture_log; DROP FUNCTION posture_streams;"
                  "DROP TRIGGER posture_minutes_gone ON posture_log; DROP TABLE posture_minutes")  # fmt: skip
    with contextlib.closing(open_store(place.url, key=place.key)) as store:
        assert len(store.write(every(1, MIDNIGHT, 20, "Good"))) == 20
    with pytest.raises(StoreRefusedError, match=r"posture_streams.*schema\.sql"):
        open_history(place.url, key=place.key)


def test_a_frame_that_came_late_is_found_at_its_moment(history: History, store: Store) -> None:
    store.write([a_row(1, MIDNIGHT, received_time=MIDNIGHT + timedelta(days=2))])
    found = history.nearest("pi1", MIDNIGHT)
    assert found is not None
    assert found["frame_id"] == "frame-1"


def test_an_sqlite_file_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="there is no such file"):
        open_history(f"sqlite:///{tmp_path / 'wrong.db'}")
    assert list(tmp_path.iterdir()) == []


def test_csv_has_every_row_and_nothing_that_a_spreadsheet_would_carry_out(history: History, store: Store) -> None:
    nasty = ['=HYPERLINK("http://x")', "+1", "-1", "@a", "\tb", 'comma, "quote"\nline', "plain"]
    rows = [a_row(number, MIDNIGHT + timedelta(seconds=number), reason=text) for number, text in enumerate(nasty)]
    store.write([replace(row, neck_angle=-1.5) for row in rows])
    text = "".join(lines(history.rows("pi1", MIDNIGHT, LATER)))
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["reason"] for row in found] == [f"'{text}" for text in nasty[:5]] + nasty[5:]
    assert {row["neck_angle"] for row in found} == {"-1.5"}
    assert found[3]["captured_time"] == "2026-11-24T00:00:03.000+00:00"


def test_rows_are_given_as_they_are_read_and_not_all_at_once(history: History, store: Store) -> None:
    store.write(every(0.1, MIDNIGHT, 300, "Good"))
    read: list[int] = []
    page = history._reader.page
    history._reader.page = lambda *asked: read.append(1) or page(*asked)  # type: ignore[method-assign,func-returns-value]
    csv_lines = lines(history.rows("pi1", MIDNIGHT, LATER))
    next(csv_lines)
    next(csv_lines)
    assert len(read) == 1
    assert len(list(csv_lines)) == 2999


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_stream_that_is_deleted_leaves_neither_rows_nor_files(
    history: History, store: Store, tmp_path: Path
) -> None:
    options = Analyzer(pictures_dir=str(tmp_path / "pictures"), quarantine_dir=str(tmp_path / "quarantine"))
    for pi_id in ("pi1", "pi2"):
        store.write([a_row(1, MIDNIGHT, pi_id=pi_id)])
        for folder in (pictures_of(options, pi_id), quarantine_of(options, pi_id)):
            folder.mkdir(parents=True)
            (folder / "a.jpg").write_bytes(b"picture")
    assert delete_stream(history, "pi1", options) == Deleted(rows=1, files=2)
    assert not pictures_of(options, "pi1").exists()
    assert not quarantine_of(options, "pi1").exists()
    assert (pictures_of(options, "pi2") / "a.jpg").exists()
    assert [stream.pi_id for stream in history.streams()] == ["pi2"]
    assert delete_stream(history, "pi1", options) == Deleted(rows=0, files=0)
    for wrong in ("../pi2", "", "a/b", "."):
        with pytest.raises(UserError, match="accepted: a name"):
            delete_stream(history, wrong, options)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "Europe", "x" * 5000, "a\x00b"])
def test_a_time_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="accepted: an IANA name"):
        zone_of(name)


@pytest.mark.parametrize("text", ["", "today", "2026-02-30", "24.11.2026", "2026-1-1", "9999-12-31", "1900-01-01"])
def test_a_day_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="accepted: a day such as"):
        parse_day(text)
    assert parse_day("2026-11-24") == TODAY
