"""Small pictures for a page: what they show is on disk, they obey the privacy mode, and they delay nothing."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from farm import Analyzer, Camera, Watcher, clip_jpegs, ended
from raw_mqtt import EndingProxy, SlowProxy
from servers import Mosquitto

from posture.wire.preview import Preview


def film(camera: Camera, pictures: list[bytes], pause_s: float) -> None:
    """Publish at a camera's pace."""
    pace = threading.Event()
    for jpeg in pictures:
        camera.publish(jpeg)
        pace.wait(pause_s)


def film_until(enough: int, watcher: Watcher, camera: Camera, pictures: list[bytes], pause_s: float) -> None:
    """Publish them, again while a busy machine has left out too many small pictures."""
    for _ in range(10):
        film(camera, pictures, pause_s)
        if len(watcher.pictures) >= enough:
            break
    watcher.wait_for(lambda w: w.receipts >= set(camera.published) and len(w.pictures) >= enough, 120)


def pixels(jpeg: bytes, how: int = cv2.IMREAD_COLOR) -> npt.NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), how)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def test_a_small_picture_a_second_says_what_its_row_says_and_is_not_retained(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        began = time.monotonic()
        film_until(3, watcher, camera, clip_jpegs(90, width=960)[30:75], 0.1)
        assert analyzer.stop() == 0
        took_s = time.monotonic() - began  # a picture may come after the last receipt
    assert len(watcher.pictures) <= took_s + 1
    rows = {row["frame_id"]: row for row in analyzer.rows()}
    for jpeg in watcher.pictures:
        said, row = Preview.of(jpeg), rows[Preview.of(jpeg).id]
        assert (said.status, said.reason, said.rule_set) == (row["posture_status"], row["reason"], row["rule_set"])
        assert said.neck == (None if row["neck_angle"] is None else round(row["neck_angle"], 1))
        assert said.at[:23] == row["captured_time"][:23]
        assert max(pixels(jpeg).shape) == 480
        assert len(jpeg) < 60_000
    late = Watcher(mosquitto.port)
    late.wait_for(lambda w: (w.retained.get("status/pi1") or {}).get("state") == "offline")
    assert late.pictures == []
    for one in (late, watcher, camera):
        one.close()


def test_with_skeleton_no_pixel_of_the_camera_is_in_a_small_picture(mosquitto: Mosquitto, tmp_path: Path) -> None:
    clip = clip_jpegs(60)[30:60]
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, mosquitto.port, POSTURE_ANALYZER_PICTURES="skeleton")
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        film_until(2, watcher, camera, clip, 0.08)
        assert analyzer.stop() == 0
    seqs = {row["frame_id"]: row["seq"] for row in analyzer.rows()}
    for jpeg in watcher.pictures:
        drawn = pixels(jpeg, cv2.IMREAD_GRAYSCALE)
        source = pixels(clip[seqs[Preview.of(jpeg).id] % len(clip)], cv2.IMREAD_GRAYSCALE)
        # the ground is plain: away from the drawing nothing of the scene's texture is left
        ground = np.abs(drawn.astype(int) - int(np.median(drawn))) < 12
        assert ground.mean() > 0.5
        scene = cv2.resize(source, drawn.shape[::-1]).astype(float)[ground]
        assert abs(np.corrcoef(scene, drawn.astype(float)[ground])[0, 1]) < 0.3
    watcher.close()
    camera.close()


@pytest.mark.parametrize("setting", [{"PICTURES": "none"}, {"PREVIEW": "false"}], ids=["no pictures", "no preview"])
def test_there_is_none_where_the_settings_say_so(
    mosquitto: Mosquitto, tmp_path: Path, setting: dict[str, str]
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    given = {f"POSTURE_ANALYZER_{name}": value for name, value in setting.items()}
    analyzer = Analyzer(tmp_path, mosquitto.port, **given)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        film(camera, clip_jpegs(40)[30:40], 0.05)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published))
        assert analyzer.stop() == 0
    assert watcher.pictures == []
    assert "small pictures" not in analyzer.log.read_text()
    watcher.close()
    camera.close()


def test_over_a_slow_connection_pictures_are_dropped_and_receipts_come_in_time(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    proxy = SlowProxy(mosquitto.port, 8_000)
    analyzer = Analyzer(tmp_path, proxy.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        film(camera, clip_jpegs(70, width=480)[30:70], 0.1)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published))
        received, shown = datetime.now(timezone.utc), len(watcher.pictures)
        assert analyzer.stop() == 0
    # measured from when a busy machine had its frames analyzed, not from when they were filmed
    analyzed = [datetime.fromisoformat(row["analyzed_time"]) for row in analyzer.rows()]
    assert received - max(analyzed) < timedelta(seconds=20), "one picture may be before the receipts"
    made = 1 + (max(analyzed) - min(analyzed)).total_seconds()
    assert 1 <= shown <= 2 / 3 * made, "three of five"
    assert analyzer.log.read_text().count("connected to") == 1
    for one in (proxy, watcher, camera):
        one.close()


def test_where_pictures_end_the_connection_no_more_are_sent_and_frames_go_on(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    proxy = EndingProxy(mosquitto.port, lambda data: b"posture/pi1/picture" in data)
    watcher, camera = Watcher(mosquitto.port), Camera(mosquitto.port)
    analyzer = Analyzer(tmp_path, proxy.port)
    with ended(analyzer):
        analyzer.start().wait_online(watcher)
        jpegs = iter(clip_jpegs(190) * 5)
        while "no more are" not in analyzer.log.read_text():
            film(camera, [next(jpegs)], 0.1)
        film(camera, [next(jpegs)], 0)
        watcher.wait_for(lambda w: w.receipts >= set(camera.published))
        assert analyzer.stop() == 0
    assert len(analyzer.rows()) == len(camera.published)
    for one in (proxy, watcher, camera):
        one.close()
