"""Webcams and RTSP: real devices where there are any, and a real RTSP server."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from rtsp_server import RtspCamera

from posture.camera import devices, live, pixels
from posture.camera.devices import VideoCamera, open_webcam
from posture.camera.live import CameraLostError, CameraRefusedError
from posture.camera.sources import open_source
from posture.errors import UserError
from posture.settings.table import Camera

USER, PASSWORD = "view er", "p@:/?#%&w"
COUNT = 64
"""Pictures of the camera, each of another brightness."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    for number in range(COUNT):
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), np.full((48, 64, 3), number * 4, np.uint8))
    return folder


@pytest.fixture
def camera(tmp_path: Path, pictures: Path) -> Iterator[RtspCamera]:
    server = RtspCamera(tmp_path, pictures, user=USER, password=PASSWORD)
    server.start()
    yield server
    server.stop()


def number_of(jpeg: bytes) -> int:
    return round(float(pixels.decoded(jpeg).mean()) / 4)


def test_an_rtsp_camera_films_for_who_has_its_password(camera: RtspCamera) -> None:
    settings = Camera(username=USER, password=PASSWORD)

    def each_once_in_the_order_of_time() -> bool:
        seen = [number_of(jpeg) for jpeg in islice(open_source(camera.url, loop=False, camera=settings), 5)]
        steps = np.diff(seen) % COUNT
        return bool((steps >= 1).all() and steps.sum() < COUNT)

    # they come round after two and a half seconds, which a busy machine may miss
    assert any(each_once_in_the_order_of_time() for _ in range(3))


def test_who_fetches_seldom_gets_the_newest_picture_of_an_rtsp_camera(camera: RtspCamera) -> None:
    frames = open_source(camera.url, loop=False, camera=Camera(username=USER, password=PASSWORD))
    first = number_of([next(frames) for _ in range(30)][-1])  # past those that FFmpeg looked at to know the format
    newest = 0
    for _ in range(20):  # a busy machine may be late now and then; a queue would grow by 20 pictures each time
        began = time.monotonic()
        time.sleep(0.8)  # the interval of a camera with --fps 1.25
        second = number_of(next(frames))
        expected = (time.monotonic() - began) * 25
        newest += (second - first) % COUNT == pytest.approx(expected, abs=4)
        if newest == 2:
            break
        first = second
    assert newest == 2
    frames.close()  # type: ignore[attr-defined]


def test_an_rtsp_camera_that_is_switched_off_films_on_when_it_is_back(
    camera: RtspCamera, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.1)
    frames = open_source(camera.url, loop=False, camera=Camera(username=USER, password=PASSWORD))
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as pool:
        next(frames)
        camera.kill()
        after = pool.submit(lambda: next(jpeg for jpeg in frames if "next try in" in caplog.text))
        deadline = time.monotonic() + 30
        while "next try in" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        camera.start()
        assert after.result(30)
    frames.close()  # type: ignore[attr-defined]
    assert "p%40" not in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("device", ["77", "/dev/video77", "/dev/v4l/by-id/usb-none-video-index0"])
def test_a_webcam_that_is_not_there_is_a_users_error_at_once(device: str) -> None:
    with pytest.raises(UserError, match=f"--source {device}: there is no webcam at /dev/.*accepted: "):
        next(open_source(device, loop=False))


def test_a_device_that_is_no_webcam_is_refused() -> None:
    with pytest.raises(CameraRefusedError, match="/dev/null can't be opened as a webcam"):
        open_webcam("/dev/null")


class Capture:
    """OpenCV's capture of a webcam that fails its first reads, as many do while they warm up."""

    def __init__(self, failures: float) -> None:
        self._failures = failures
        self.released = False

    def grab(self) -> bool:
        self._failures -= 1
        return self._failures < 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((48, 64, 3), np.uint8)

    def release(self) -> None:
        self.released = True


def test_a_webcam_that_fails_its_first_reads_films_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 5 * devices.READ_AGAIN_S < devices.FAILED_READS_S
    monkeypatch.setattr(devices, "FAILED_READS_S", 60.0)  # a busy machine may stand still between two of them
    webcam = VideoCamera(Capture(5))  # type: ignore[arg-type]
    webcam.wait()
    assert pixels.decoded(webcam.picture()).shape == (48, 64, 3)


def test_a_webcam_that_fails_for_long_is_lost_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "FAILED_READS_S", 0.3)
    capture = Capture(np.inf)
    with pytest.raises(CameraLostError, match="gives no picture"), closing(VideoCamera(capture)) as webcam:  # type: ignore[arg-type]
        webcam.wait()
    assert capture.released
