"""Analyzers whose pictures go to an S3 server: whatever befalls it, each frame has one row and one picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dashboard_process import DashboardProcess
from farm import START_S, Analyzer, Camera, Watcher, clip_jpegs, ended
from s3_server import S3Server
from servers import Mosquitto
from slow_proxy import SlowProxy

from posture.wire import frame

pytestmark = pytest.mark.xdist_group("loss")

AWAY = "frames wait unacknowledged"


def assert_each_frame_once(analyzer: Analyzer, published: list[str], s3: S3Server) -> None:
    rows = Counter(row["frame_id"] for row in analyzer.rows())
    assert sorted(rows) == sorted(published)
    assert set(rows.values()) == {1}
    assert sorted(s3.pictures()) == sorted(f"{frame.safe_name(name)}.jpg" for name in published)
    assert not analyzer.pictures.exists(), "nothing of a picture stays on the node"


@contextmanager
def at_work(mosquitto: Mosquitto, analyzer: Analyzer) -> Iterator[tuple[Watcher, Camera]]:
    """An analyzer that is online, its camera, and who watches."""
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        yield watcher, camera
    camera.close()
    watcher.close()


def test_a_server_that_is_killed_and_an_analyzer_that_is_killed_lose_and_double_nothing(
    mosquitto: Mosquitto, s3: S3Server, tmp_path: Path
) -> None:
    analyzer = Analyzer(tmp_path, mosquitto.port, **s3.settings())
    with at_work(mosquitto, analyzer) as (watcher, camera):
        jpegs = clip_jpegs(40)
        for jpeg in jpegs:
            camera.publish_now(jpeg)
        watcher.wait_for(lambda w: len(w.receipts) >= 10)
        s3.kill()
        for jpeg in jpegs:
            camera.publish_now(jpeg)
        analyzer.wait_for_log(AWAY)
        watcher.wait_for(lambda w: w.retained["status/pi1"].get("why") == "waiting for the store", 60)
        confirmed = set(watcher.receipts)
        assert len(confirmed) < len(camera.published)
        analyzer.kill()
        s3.start()
        analyzer.start().wait_online(watcher)
        watcher.wait_for(lambda w: len(w.receipts) >= len(confirmed) + 5, 60)
        s3.kill()
        for jpeg in jpegs:
            camera.publish_now(jpeg)
        s3.start()
        watcher.wait_for(lambda w: w.receipts >= set(camera.published), 90)
        assert analyzer.stop() == 0
    assert_each_frame_once(analyzer, camera.published, s3)


def test_a_full_server_is_said_and_holds_frames_until_there_is_room(
    mosquitto: Mosquitto, small_disk: Path, tmp_path: Path
) -> None:
    s3 = S3Server(tmp_path, small_disk / "s3")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(900_000))
    s3.start()
    analyzer = Analyzer(tmp_path, mosquitto.port, **s3.settings())
    try:
        with at_work(mosquitto, analyzer) as (watcher, camera):
            for jpeg in clip_jpegs(20):
                camera.publish_now(jpeg)
            analyzer.wait_for_log(AWAY)
            assert f"{s3.url} does not take pictures: " in analyzer.log.read_text()
            assert watcher.receipts < set(camera.published)
            filler.unlink()
            watcher.wait_for(lambda w: w.receipts >= set(camera.published), 90)
            assert analyzer.stop() == 0
            assert "the store is back" in analyzer.log.read_text()
        assert_each_frame_once(analyzer, camera.published, s3)
    finally:
        s3.stop()


def test_a_slow_server_is_waited_for(mosquitto: Mosquitto, s3: S3Server, tmp_path: Path) -> None:
    proxy = SlowProxy(s3.port, bytes_per_s=60_000)
    analyzer = Analyzer(tmp_path, mosquitto.port, **s3.settings(s3.url_at(proxy.port)))
    with at_work(mosquitto, analyzer) as (watcher, camera):
        for jpeg in clip_jpegs(20):
            camera.publish_now(jpeg)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published), 60)
        assert analyzer.stop() == 0
    proxy.close()
    assert_each_frame_once(analyzer, camera.published, s3)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        pytest.param({"POSTURE_PICTURES_SECRET_KEY": "wrong"}, "POSTURE_PICTURES_SECRET_KEY of a user", id="key"),
        pytest.param({"bucket": "nowhere"}, "no bucket nowhere is there", id="bucket"),
    ],
)
def test_what_a_person_must_mend_ends_the_analyzer_with_a_line(
    mosquitto: Mosquitto, s3: S3Server, tmp_path: Path, changed: dict[str, str], says: str
) -> None:
    url = s3.url_at(s3.port, changed.pop("bucket", "posture"))
    analyzer = Analyzer(tmp_path, mosquitto.port, **{**s3.settings(url), **changed})
    with ended(analyzer):
        analyzer.start()
        assert analyzer.process is not None
        assert analyzer.process.wait(START_S) == 2
    last = analyzer.log.read_text().splitlines()[-1]
    assert last.startswith("error: ")
    assert says in last


def test_a_server_that_is_away_at_the_start_is_waited_for(
    mosquitto: Mosquitto, s3: S3Server, tmp_path: Path
) -> None:
    s3.stop()
    analyzer = Analyzer(tmp_path, mosquitto.port, **s3.settings())
    watcher = Watcher(mosquitto.port)
    with ended(analyzer):
        analyzer.start()
        analyzer.wait_for_log(f"{s3.url} can't be reached: Connection refused; next try in")
        s3.start()
        analyzer.wait_online(watcher)
        assert analyzer.stop() == 0
    watcher.close()


def test_the_page_shows_every_picture_of_a_stream_that_has_moved(
    mosquitto: Mosquitto, s3: S3Server, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path / 'posture.db'}"
    jpegs, published = clip_jpegs(20), []
    for node in ("jetson-1", "jetson-2"):
        there = tmp_path / node
        there.mkdir()
        analyzer = Analyzer(there, mosquitto.port, database=database, NODE_NAME=node, **s3.settings())
        watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port, boot_id=node)
        with ended(analyzer):
            analyzer.start().wait_online(watcher)
            for jpeg in jpegs:
                camera.publish_now(jpeg)
            watcher.wait_for(lambda w, camera=camera: w.receipts >= set(camera.published))
            assert analyzer.stop() == 0
        published += camera.published
        camera.close()
        watcher.close()
    mqtt = {"url": f"mqtt://127.0.0.1:{mosquitto.port}"}
    page = DashboardProcess(tmp_path / "page", {"mqtt": mqtt, "database": {"url": database}}, **s3.settings())
    page.start()
    try:
        kept = s3.pictures()
        assert len(kept) == len(published) == 40
        for name in published:
            status, headers, body = page.ask(f"/api/streams/pi1/frames/{name}")
            assert (status, headers["content-type"]) == (200, "image/jpeg")
            assert body == kept[f"{frame.safe_name(name)}.jpg"]
        s3.kill()
        status, _, body = page.ask(f"/api/streams/pi1/frames/{published[0]}")
        assert (status, json.loads(body)["error"]) == (503, f"{s3.url} can't be reached: Connection refused")
    finally:
        page.stop()
