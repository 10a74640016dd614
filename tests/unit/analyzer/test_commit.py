"""The last stage: a frame is settled once its picture and its row are on disk, in order, and never before."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers import Postgres
from watching import wait_for

from posture.analyzer.commit import BOOT_EVERY_S, BOOTS_AT_ONCE, Committer
from posture.analyzer.counts import Account
from posture.analyzer.delivery import Delivery
from posture.analyzer.item import Item
from posture.pictures.base import marked
from posture.settings.table import Analyzer, Database
from posture.store.base import Row, StoreRefusedError
from posture.store.postgres import PostgresStore
from posture.store.sqlite import SqliteStore
from posture.wire.frame import Identity
from posture.wire.receipts import receipt
from posture.wire.topics import Topics

ROOT = Path(__file__).resolve().parents[3]
NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
TOPICS = Topics("pi1")
WAIT_S = 20.0


class Stream:
    """Writes down what the stage says to the stream, and what was on disk when it said so.

    Args:
        on_disk: returns the ids of rows and the names of pictures that are on disk.
    """

    camera_frozen = False
    outstanding = 0

    def __init__(self, on_disk: Callable[[], tuple[set[str], set[str]]]) -> None:
        self.said: list[tuple[str, Any]] = []
        self.on_disk_when_settled: list[tuple[set[str], set[str]]] = []
        self.retained: dict[str, Any] = {}
        self.held = threading.Event()
        self._on_disk = on_disk

    def settled(self, delivery: Delivery) -> None:
        self.on_disk_when_settled.append(self._on_disk())
        self.said.append(("settled", delivery.packet_id))

    def publish(self, topic: str, payload: Mapping[str, Any], *, retain: bool = False) -> None:
        if topic == TOPICS.committed:
            self.on_disk_when_settled.append(self._on_disk())
        if retain:
            self.retained[topic] = payload
        if topic != TOPICS.account:
            self.said.append((topic, payload))

    def hold(self, held: bool) -> None:
        self.said.append(("hold", held))
        if held:
            self.held.set()


class Stage:
    """A committer with a database and folders of its own."""

    def __init__(self, folder: Path, batch_s: float = 0.05) -> None:
        self.database = folder / "posture.db"
        self.folder = folder / "pictures" / "analyzed_images_from_pi1"
        self.quarantine = folder / "quarantine" / "quarantine_from_pi1"
        self.store = SqliteStore(self.database, timeout_s=0.1)
        self.stop = threading.Event()
        self.account = Account()
        self.stream = Stream(self.on_disk)
        self.committer = Committer(
            Analyzer(pictures_dir=str(folder / "pictures"), quarantine_dir=str(folder / "quarantine")),
            Database(batch_rows=3, batch_s=batch_s),
            TOPICS, self.store, self.stream, self.account, "cpu", self.stop,
        )  # fmt: skip

    def rows(self) -> set[str]:
        db = sqlite3.connect(self.database)
        try:
            return {frame_id for (frame_id,) in db.execute("SELECT frame_id FROM posture_log")}
        finally:
            db.close()

    def pictures(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.glob("*.jpg")}

    def on_disk(self) -> tuple[set[str], set[str]]:
        return self.rows(), set(self.pictures())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.stop.set()  # a test that failed may have left a thread that still tries
    made.store.close()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[tuple[Stage, queue.Queue[Item | None]]]:
    """A stage that runs, and may wait for a very long time for a batch to fill."""
    made = Stage(tmp_path, batch_s=600.0)
    drawn: queue.Queue[Item | None] = queue.Queue()
    running = threading.Thread(target=made.committer.run, args=(drawn,))
    running.start()
    yield made, drawn
    drawn.put(None)
    running.join(WAIT_S)
    made.store.close()
    assert not running.is_alive()


def an_item(number: int, jpeg: bytes = b"drawn", **fields: Any) -> Item:
    name = f"frame-{number}"
    row = Row(
        pi_id="pi1", frame_id=name, filename=f"{name}.jpg", received_time=NOON, analyzed_time=NOON,
        captured_time=None, neck_angle=None, body_angle=None, posture_status="Good", landmarks_detected=True,
        processed_by="here", side="left", reason="", rule_set="upright",
        landmarks=None, schema_version=1, seq=number, boot_id="boot",
    )  # fmt: skip
    delivery = Delivery(b"payload", {}, NOON, 0.0, packet_id=number + 1, connection=1)
    return Item(delivery, Identity(name, seq=number, boot_id="boot"), jpeg=jpeg, row=row, **fields)


def seen_before(number: int) -> Item:
    item = an_item(number, again=True)
    item.row = item.jpeg = None
    return item


def test_rows_and_pictures_are_on_disk_before_anything_is_said_then_the_receipt_and_each_frame_in_order(
    stage: Stage,
) -> None:
    state = {"state": "Good"}
    messages = [(TOPICS.state, state, True)]
    batch = [an_item(0, digest="00"), an_item(1, digest="11", messages=messages), an_item(2, digest="22")]
    stage.committer.commit(batch)
    ids = ["frame-0", "frame-1", "frame-2"]
    assert stage.stream.said == [
        (TOPICS.committed, {"ids": ids, "sha256": ["00", "11", "22"]}),
        ("settled", 1), (TOPICS.state, state), ("settled", 2), ("settled", 3),
    ]  # fmt: skip
    everything = set(ids), {f"{name}.jpg" for name in ids}
    assert stage.stream.on_disk_when_settled == [everything] * 4
    assert stage.stream.retained[TOPICS.state] == state
    assert stage.committer.finished == 3


def test_the_account_is_published_retained_with_what_the_landmarker_runs_on(stage: Stage) -> None:
    stage.committer.commit([an_item(0), an_item(2)])
    account = stage.stream.retained[TOPICS.account]
    assert (account["rows"], account["good"], account["missing"], account["delegate"]) == (2, 2, 1, "cpu")


def test_a_frame_that_comes_again_is_confirmed_again_and_counted_as_duplicate(stage: Stage) -> None:
    stage.committer.commit([an_item(0), seen_before(0)])
    stage.committer.commit([seen_before(0)])
    receipts = [payload["ids"] for what, payload in stage.stream.said if what == TOPICS.committed]
    assert receipts == [["frame-0", "frame-0"], ["frame-0"]]
    assert [payload for what, payload in stage.stream.said if what == "settled"] == [1, 1, 1]
    assert (stage.account.rows, stage.account.duplicate) == (1, 2)
    assert stage.rows() == {"frame-0"}


def test_a_frame_that_the_analyzer_before_has_committed_keeps_its_row_and_picture_and_is_a_duplicate(
    stage: Stage, tmp_path: Path
) -> None:
    stage.committer.commit([an_item(0, b"first")])
    stage.store.close()
    after = Stage(tmp_path)
    later = an_item(0, b"drawn anew")
    assert later.row is not None
    later.row = dataclasses.replace(later.row, posture_status="Bad", processed_by="there")
    after.committer.commit([later, an_item(1, b"new")])
    assert after.pictures() == {"frame-0.jpg": b"first", "frame-1.jpg": b"new"}
    assert after.store.counts("pi1") == {"Good": 2}
    assert (after.account.rows, after.account.duplicate, after.account.missing) == (1, 1, 0)
    assert [payload for what, payload in after.stream.said if what == "settled"] == [1, 2]
    after.store.close()


def test_a_payload_that_could_not_be_analyzed_is_in_quarantine_before_its_frame_is_settled(stage: Stage) -> None:
    item = an_item(0, quarantine=b"as it came")
    item.jpeg = None
    stage.committer.commit([item])
    assert [path.read_bytes() for path in stage.quarantine.iterdir()] == [b"as it came"]
    assert ("settled", 1) in stage.stream.said


def locked(database: Path) -> sqlite3.Connection:
    """Keep everybody else from writing."""
    lock = sqlite3.connect(database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    return lock


def committing(stage: Stage, batch: list[Item]) -> threading.Thread:
    thread = threading.Thread(target=stage.committer.commit, args=(batch,))
    thread.start()
    return thread


def test_while_the_store_is_away_the_stream_is_held_and_nothing_settled_until_it_is_back(stage: Stage) -> None:
    lock = locked(stage.database)
    try:
        thread = committing(stage, [an_item(0)])
        assert stage.stream.held.wait(WAIT_S)
        assert all(entry == ("hold", True) for entry in stage.stream.said)
        assert stage.committer.store_away
    finally:
        lock.close()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    said = [entry for entry in stage.stream.said if entry != ("hold", True)]
    assert said == [("hold", False), (TOPICS.committed, receipt([("frame-0", "")])), ("settled", 1)]
    assert stage.rows() == {"frame-0"}
    assert not stage.committer.store_away


def test_a_stop_while_the_store_is_away_settles_nothing_then_or_later_not_even_a_frame_seen_before(
    stage: Stage,
) -> None:
    lock = locked(stage.database)
    thread = committing(stage, [an_item(0)])
    assert stage.stream.held.wait(WAIT_S)
    stage.stop.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    lock.close()  # the store is back, but what repeats a frame that was left may not be settled
    stage.committer.commit([seen_before(0)])
    stage.committer.commit([an_item(1)])
    assert all(entry == ("hold", True) for entry in stage.stream.said)
    assert stage.committer.finished == 0
    assert stage.rows() == set()


def test_pictures_that_cannot_be_written_hold_the_stream_like_a_store_that_is_away(stage: Stage) -> None:
    in_the_way = stage.folder.parent
    in_the_way.write_text("no folder")
    thread = committing(stage, [an_item(0)])
    assert stage.stream.held.wait(WAIT_S)
    assert stage.rows() == set(), "a row never comes before its picture"
    in_the_way.unlink()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert stage.stream.said[-1] == ("settled", 1)
    assert stage.on_disk() == ({"frame-0"}, {"frame-0.jpg"})


def test_batches_are_full_or_end_with_the_queue_and_nothing_is_left_in_it(stage: Stage) -> None:
    drawn: queue.Queue[Item | None] = queue.Queue()
    for entry in (*(an_item(number) for number in range(5)), None):
        drawn.put(entry)
    stage.committer.run(drawn)
    receipts = [payload["ids"] for what, payload in stage.stream.said if what == TOPICS.committed]
    assert [frame_id for ids in receipts for frame_id in ids] == [f"frame-{number}" for number in range(5)]
    assert max(len(ids) for ids in receipts) <= 3
    assert len(stage.rows()) == 5


def with_picture(number: int, picture: bytes, **fields: Any) -> Item:
    """A frame of this number whose camera's picture is this one."""
    digest = hashlib.sha256(picture).hexdigest()
    item = an_item(number, marked(b"\xff\xd8" + picture, digest), content=digest, **fields)
    assert item.row is not None
    item.row = dataclasses.replace(item.row, picture_sha256=digest)
    return item


@pytest.mark.parametrize("batches", [1, 2], ids=["one-batch", "two-batches"])
def test_a_frame_whose_id_a_stranger_has_used_is_no_duplicate_both_are_kept_and_counted(
    stage: Stage, batches: int
) -> None:
    stranger, genuine = with_picture(0, b"stranger"), with_picture(0, b"genuine")
    for batch in [[stranger, genuine]] if batches == 1 else [[stranger], [genuine]]:
        stage.committer.commit(batch)
    assert len(stage.rows()) == 2
    assert {jpeg[-7:] for jpeg in stage.pictures().values()} == {b"tranger", b"genuine"}
    assert genuine.row is not None
    assert stage.pictures()[genuine.row.filename].endswith(b"genuine")
    assert (stage.account.reused_ids, stage.account.duplicate) == (1, 0)
    # and each of them that comes again has its row
    stage.committer.commit([with_picture(0, b"genuine"), with_picture(0, b"stranger")])
    assert len(stage.rows()) == 2
    assert stage.account.duplicate == 2
    assert [payload for what, payload in stage.stream.said if what == "settled"] == [1] * 4


def test_a_row_names_the_frame_that_was_measured_for_it_by_the_id_that_its_row_got(stage: Stage) -> None:
    measured, plain = with_picture(0, b"genuine"), with_picture(1, b"one more")
    stage.committer.commit([with_picture(0, b"stranger"), measured, an_item(2, measured=measured)])
    stage.committer.commit([an_item(3, measured=measured), plain, an_item(4, measured=plain)])
    assert measured.row is not None
    assert measured.row.frame_id != "frame-0"
    with contextlib.closing(sqlite3.connect(stage.database)) as db:
        named = dict(db.execute("SELECT frame_id, measured_frame_id FROM posture_log"))
    of_its_own = dict.fromkeys(["frame-0", "frame-1", measured.row.frame_id])
    assert named == of_its_own | {
        "frame-2": measured.row.frame_id, "frame-3": measured.row.frame_id, "frame-4": "frame-1",
    }  # fmt: skip


def test_a_stored_picture_is_not_replaced_by_that_of_another_frame_though_its_row_is_gone(
    stage: Stage, tmp_path: Path
) -> None:
    stage.committer.commit([with_picture(0, b"first"), with_picture(1, b"left half way")])
    stage.store.close()
    stage.database.unlink()
    after = Stage(tmp_path)
    other, again = with_picture(0, b"other"), with_picture(1, b"left half way")
    after.committer.commit([other, again])
    pictures = after.pictures()
    assert pictures["frame-0.jpg"].endswith(b"first")
    assert other.row is not None
    assert pictures[other.row.filename].endswith(b"other")
    assert again.row is not None
    assert again.row.filename == "frame-1.jpg", "a frame whose row was never written keeps its name"
    assert len(pictures) == 3
    after.store.close()


class CountingStore(SqliteStore):
    """Counts the questions about boots, each of which goes over a network with other stores."""

    asked = 0

    def sequences(self, pi_id: str, boot_id: str) -> tuple[int | None, int | None, int]:
        self.asked += 1
        return super().sequences(pi_id, boot_id)


def test_boot_ids_without_end_cost_a_bounded_number_of_questions_and_the_cameras_own_boot_is_followed(
    stage: Stage, tmp_path: Path
) -> None:
    stage.store.close()
    stage.store = store = CountingStore(tmp_path / "posture.db", timeout_s=0.1)
    stage.committer._store = store
    began = time.monotonic()
    for number in range(300):
        item = an_item(number)
        assert item.row is not None
        item.row = dataclasses.replace(item.row, boot_id="own" if number % 2 == 0 else f"made-up-{number}")
        stage.committer.commit([item])
    assert BOOTS_AT_ONCE <= store.asked <= BOOTS_AT_ONCE + (time.monotonic() - began) / BOOT_EVERY_S
    assert stage.account.rows == 300
    assert stage.account.unfollowed == 150 - (store.asked - 1), "each made-up boot that was not asked for"
    assert len(stage.account.as_dict()) > 10
    assert stage.account._highest["own"] == 298


def test_one_row_that_the_database_has_no_letters_for_does_not_keep_the_others_from_it(
    stage: Stage, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as db:
        db.execute("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    url = postgres.url.rsplit("/", 1)[0] + "/narrow"
    with psycopg.connect(url, autocommit=True) as db:
        db.execute((ROOT / "deploy" / "schema" / "schema.sql").read_text())
    stage.store.close()
    stage.committer._store = store = PostgresStore(url, 60.0)
    poison = an_item(1)
    assert poison.row is not None
    poison.identity = Identity("frame-\u4e00", seq=1, boot_id="\u4e00")
    poison.row = dataclasses.replace(poison.row, frame_id="frame-\u4e00", boot_id="\u4e00")
    stage.committer.commit([an_item(0), poison, an_item(2)])
    assert store.counts("pi1") == {"Good": 3}
    assert stage.account.ignored == {"id": 1}
    assert [payload for what, payload in stage.stream.said if what == "settled"] == [1, 2, 3]
    assert "id hashed" in caplog.text
    stage.committer.commit([an_item(3)])
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DROP TABLE posture_log")
    with pytest.raises(StoreRefusedError):
        stage.committer.commit([an_item(4), an_item(5)])
    assert stage.committer.finished == 4, "a store that takes nothing is no frame's fault"
    store.close()


def test_a_lone_frame_waits_for_nobody(patient: tuple[Stage, queue.Queue[Item | None]]) -> None:
    stage, drawn = patient
    for number in range(3):
        stage.account.received += 1
        drawn.put(an_item(number))
        wait_for(lambda number=number: stage.rows() == {f"frame-{one}" for one in range(number + 1)}, WAIT_S)


def test_frames_that_are_being_analyzed_are_waited_for_and_committed_with_it(
    patient: tuple[Stage, queue.Queue[Item | None]],
) -> None:
    stage, drawn = patient
    stage.account.received = 2
    drawn.put(an_item(0))
    drawn.put(an_item(1))
    wait_for(lambda: ("settled", 2) in stage.stream.said, WAIT_S)  # its row is there before its receipt
    assert len(stage.rows()) == 2
    receipts = [said for topic, said in stage.stream.said if topic == TOPICS.committed]
    assert [len(said["ids"]) for said in receipts] == [2], "one transaction, one receipt"
