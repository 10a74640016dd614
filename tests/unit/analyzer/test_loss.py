"""No frame is lost, and none is counted twice: real analyzers, a real Mosquitto, kills at random points."""

from __future__ import annotations

import contextlib
import random
import re
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest
from farm import Analyzer, Camera, Watcher, clip_jpegs, ended
from servers import Mosquitto, Postgres

from posture.wire import frame

pytestmark = pytest.mark.xdist_group("loss")


def assert_each_frame_once(analyzer: Analyzer, published: list[str]) -> None:
    rows = Counter(row["frame_id"] for row in analyzer.rows())
    assert sorted(rows) == sorted(published)
    assert set(rows.values()) == {1}
    assert analyzer.picture_names() == sorted(f"{frame.safe_name(name)}.jpg" for name in published)


def last_account(analyzer: Analyzer) -> str:
    return analyzer.log.read_text().rsplit("account of pi1: ", 1)[1].splitlines()[0]


def start_session(analyzer: Analyzer, watcher: Watcher) -> None:
    """From its first connection on, the broker keeps what an analyzer does not take."""
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        assert analyzer.stop() == 0


def test_an_analyzer_killed_twenty_times_leaves_one_row_and_one_picture_per_frame(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    jpegs, done = clip_jpegs(), threading.Event()

    def film() -> None:
        """There is always more to do, and never so much that the last analyzer takes long."""
        while not done.wait(0.04):
            if len(camera.published) < len(watcher.receipts) + 400:
                camera.publish(jpegs[len(camera.published) % len(jpegs)])

    start_session(analyzer, watcher)
    filming = threading.Thread(target=film)
    filming.start()
    with ended(analyzer):
        try:
            for _ in range(20):
                analyzer.start().wait_online(watcher)
                seen = len(watcher.receipts)
                # killed somewhere between two commits: after some receipts and a random part of a batch
                enough = seen + chance.randrange(1, 15)
                watcher.wait_for(lambda w, enough=enough: len(w.receipts) >= enough)
                done_at = chance.uniform(0, 0.1)
                threading.Event().wait(done_at)
                analyzer.kill()
        finally:
            done.set()
            filming.join()
        analyzer.start().wait_online(watcher)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published), 300)
        assert analyzer.stop() == 0
    assert_each_frame_once(analyzer, camera.published)
    assert '"missing": 0' in last_account(analyzer)
    camera.close()
    watcher.close()


def test_a_stop_in_mid_stream_loses_nothing_and_exits_0(mosquitto: Mosquitto, tmp_path: Path) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    start_session(analyzer, watcher)
    jpegs = clip_jpegs(40)
    with ended(analyzer):
        left = []
        for _ in range(3):
            for jpeg in jpegs * 2:
                camera.publish(jpeg)
            enough = len(watcher.receipts) + 20
            analyzer.start().wait_online(watcher)
            watcher.wait_for(lambda w, enough=enough: len(w.receipts) >= enough)
            assert analyzer.stop() == 0
            left.append(len(camera.published) - len(analyzer.rows()))
        assert max(left) > 0, "it stopped in mid-stream"
        analyzer.start().wait_online(watcher)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published), 120)
        assert analyzer.stop() == 0
    assert_each_frame_once(analyzer, camera.published)
    watcher.wait_for(lambda w: w.retained["status/pi1"]["state"] == "offline")
    camera.close()
    watcher.close()


def test_a_broker_that_is_stopped_and_started_loses_nothing(mosquitto: Mosquitto, tmp_path: Path) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        jpegs = clip_jpegs(40)
        for jpeg in jpegs * 2:
            camera.publish_now(jpeg)
        mosquitto.stop()
        for jpeg in jpegs:  # paho keeps these until the broker is back
            camera.publish(jpeg)
        mosquitto.start()
        watcher.wait_for(lambda w: w.receipts >= set(camera.published), 90)
        assert analyzer.stop() == 0
    assert_each_frame_once(analyzer, camera.published)
    camera.close()
    watcher.close()


def test_what_a_killed_broker_lost_of_a_foreign_camera_is_counted_missing_exactly(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    start_session(analyzer, watcher)
    jpegs = clip_jpegs(40)
    for jpeg in jpegs[:10]:
        camera.publish_now(jpeg)
    mosquitto.stop()  # a clean stop saves these ten, and the session
    mosquitto.start()
    for jpeg in jpegs[10:30]:  # acknowledged by the broker, and lost with it
        camera.publish_now(jpeg)
    mosquitto.kill()
    mosquitto.start()
    with ended(analyzer):
        analyzer.start()
        for jpeg in jpegs[30:]:
            camera.publish_now(jpeg)
        watcher.wait_for(lambda w: camera.published[-1] in w.receipts, 60)
        assert analyzer.stop() == 0
    rows = len(analyzer.rows())
    missing = int(re.findall(r'"missing": (\d+)', last_account(analyzer))[0])
    assert missing > 0, "the kill was to lose something"
    assert rows + missing == len(camera.published)
    camera.close()
    watcher.close()


def test_a_database_that_is_away_for_a_while_costs_no_frame(
    mosquitto: Mosquitto, postgres: Postgres, tmp_path: Path
) -> None:
    import psycopg  # noqa: PLC0415 - this test alone speaks to the server itself

    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port, database=postgres.url)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        jpegs = clip_jpegs(40)
        for jpeg in jpegs:
            camera.publish_now(jpeg)
        watcher.wait_for(lambda w: len(w.receipts) >= 10)
        postgres.stop()
        for jpeg in jpegs * 2:
            camera.publish_now(jpeg)
        watcher.wait_for(lambda w: w.retained["status/pi1"].get("why") == "waiting for the store", 60)
        before = len(watcher.receipts)
        postgres.start()
        watcher.wait_for(lambda w: w.receipts >= set(camera.published), 90)
        assert before < len(camera.published)
        assert analyzer.stop() == 0
    with psycopg.connect(postgres.url) as db:
        rows = [row[0] for row in db.execute("SELECT frame_id FROM posture_log")]
    assert sorted(rows) == sorted(camera.published)
    camera.close()
    watcher.close()


def test_a_stop_while_the_store_is_away_confirms_nothing_even_of_a_frame_that_came_twice(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port, stamped=False)
    one_by_one = {"POSTURE_DATABASE_BATCH_ROWS": "1", "POSTURE_DATABASE_TIMEOUT_S": "0.1"}
    analyzer = Analyzer(tmp_path, mosquitto.port, POSTURE_ANALYZER_FROZEN_AFTER="2", **one_by_one)
    (jpeg,) = clip_jpegs(1)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        with contextlib.closing(sqlite3.connect(analyzer.database, isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")  # nobody else can write
            camera.publish(jpeg)  # together with the next: soon after it the analyzer takes no more
            camera.publish_now(jpeg)
            analyzer.wait_for_log("frames wait unacknowledged")
            # the second one is in hand, too
            watcher.wait_for(lambda w: (w.retained.get("camera/pi1") or {}).get("state") == "frozen")
            assert analyzer.stop() == 0
        assert watcher.receipts == set()
        assert analyzer.rows() == []
        analyzer.start().wait_online(watcher)
        watcher.wait_for(lambda w: len(w.receipts) == 1)
        assert analyzer.stop() == 0
    assert len(analyzer.rows()) == len(analyzer.picture_names()) == 1
    camera.close()
    watcher.close()


def test_a_frame_that_comes_again_after_a_restart_leaves_row_and_picture_as_they_are(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher = Watcher(mosquitto.port)
    jpegs = clip_jpegs(60)[40:]
    before: dict[str, bytes] = {}
    # the second one would call everybody Bad
    for roll in ("0", "60"):
        camera = Camera(mosquitto.port)
        analyzer = Analyzer(tmp_path, mosquitto.port, POSTURE_ANALYZER_CAMERA_ROLL_DEG=roll)
        with ended(analyzer):
            analyzer.start().wait_online(watcher)
            watcher.receipts.clear()
            for jpeg in jpegs:
                camera.publish(jpeg)
            watcher.wait_for(lambda w, camera=camera: w.receipts >= set(camera.published))
            assert analyzer.stop() == 0
        assert_each_frame_once(analyzer, camera.published)
        after = {name: (analyzer.pictures / name).read_bytes() for name in analyzer.picture_names()}
        assert after == (before or after)
        before = after
        camera.close()
    assert "Good" in {row["posture_status"] for row in analyzer.rows()}
    assert '"duplicate": 20' in last_account(analyzer)
    watcher.close()


def assert_the_newer_stays(older: Analyzer, newer: Analyzer, watcher: Watcher, camera: Camera) -> None:
    assert older.process is not None
    assert newer.process is not None
    assert older.process.wait(90) == 0
    for jpeg in clip_jpegs(20):
        camera.publish(jpeg)
    watcher.wait_for(lambda w: w.receipts >= set(camera.published))
    assert newer.process.poll() is None
    status = watcher.retained["status/pi1"]
    assert (status["state"], status["pid"]) == ("online", str(newer.process.pid))
    assert newer.stop() == 0
    assert_each_frame_once(newer, camera.published)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_an_analyzer_that_a_newer_one_takes_over_ends_with_0(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    older, newer = (Analyzer(tmp_path, mosquitto.port, POSTURE_MQTT_PROTOCOL=protocol) for _ in range(2))
    with ended(older, newer):
        older.start().wait_online(watcher)
        for jpeg in clip_jpegs(40):
            camera.publish(jpeg)
        newer.start().wait_online(watcher)
        assert_the_newer_stays(older, newer, watcher, camera)
    camera.close()
    watcher.close()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_an_analyzer_that_an_older_one_takes_over_comes_back(
    mosquitto: Mosquitto, postgres: Postgres, tmp_path: Path, protocol: str
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    # the older one's database is away when it starts, so that it comes to the broker after the newer one
    older = Analyzer(tmp_path, mosquitto.port, database=postgres.url, POSTURE_MQTT_PROTOCOL=protocol)
    newer = Analyzer(tmp_path, mosquitto.port, POSTURE_MQTT_PROTOCOL=protocol)
    postgres.stop()
    with ended(older, newer):
        older.start().wait_for_log("next try")
        newer.start().wait_online(watcher)
        postgres.start()
        assert_the_newer_stays(older, newer, watcher, camera)
    camera.close()
    watcher.close()
