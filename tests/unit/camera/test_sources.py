"""Sources of pictures: JPEGs pass unchanged, others become JPEGs, and what is wrong is said to the user."""

from __future__ import annotations

import logging
import os
import shutil
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from farm import ROOT, noise_jpeg

from posture.camera.sources import is_camera, open_source
from posture.errors import UserError
from posture.wire import decoding, frame

CLIP = next((ROOT / "samples").glob("*.mp4"))
RED = np.full((40, 60, 3), (0, 0, 255), np.uint8)


def decoded(jpeg: bytes) -> np.ndarray:
    assert jpeg.startswith(frame.JPEG)
    return decoding.decode(jpeg, frame.Limits(), 4000)


def test_a_folders_jpegs_come_in_order_of_name_byte_by_byte_as_they_are(tmp_path: Path) -> None:
    first, second = noise_jpeg(1, 32, 24), noise_jpeg(2, 32, 24)
    (tmp_path / "b.jpeg").write_bytes(second)
    (tmp_path / "a.JPG").write_bytes(first)
    (tmp_path / "c.txt").write_text("no picture")
    assert list(open_source(str(tmp_path), loop=False)) == [first, second]
    assert list(islice(open_source(str(tmp_path), loop=True), 5)) == [first, second, first, second, first]


def test_a_folders_pictures_come_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        (tmp_path / f"frame{number}.jpg").write_bytes(noise_jpeg(number, 32, 24))
    assert list(open_source(str(tmp_path), loop=False)) == [noise_jpeg(number, 32, 24) for number in (1, 2, 10)]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_other_pictures_become_jpegs_of_the_same_colours(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"red{suffix}"), RED)
    (jpeg,) = open_source(str(tmp_path), loop=False)
    assert np.abs(decoded(jpeg).astype(int) - RED).max() < 6


def test_a_picture_that_cannot_be_read_is_passed_over_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1.png").write_bytes(b"broken")
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "3.jpg").mkdir()
    good = noise_jpeg(1, 32, 24)
    (tmp_path / "4.jpg").write_bytes(good)
    with caplog.at_level(logging.WARNING):
        assert list(open_source(str(tmp_path), loop=False)) == [good]
    for name in ("1.png", "2.jpg", "3.jpg"):
        assert name in caplog.text


def test_a_video_ends_with_its_last_frame_or_starts_again() -> None:
    capture = cv2.VideoCapture(str(CLIP))
    count, width = (int(capture.get(what)) for what in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_WIDTH))
    capture.release()
    once = list(open_source(str(CLIP), loop=False))
    assert len(once) == count
    assert decoded(once[0]).shape[1] == width
    again = list(islice(open_source(str(CLIP), loop=True), count + 2))
    assert again[:count] == once
    assert again[count:] == once[:2]


def test_one_picture_is_a_source_and_not_the_first_of_a_series(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number:03d}.jpg").write_bytes(noise_jpeg(number, 32, 24))
    assert list(open_source(str(tmp_path / "001.jpg"), loop=False)) == [noise_jpeg(1, 32, 24)]


def test_what_is_no_file_or_too_large_is_passed_over_with_one_line_however_often_the_folder_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "1-pipe.jpg")
    with (tmp_path / "2-huge.jpg").open("wb") as huge:
        huge.write(frame.JPEG)
        huge.truncate(10**10)
    (tmp_path / "3-cut.png").write_bytes(cv2.imencode(".png", RED)[1].tobytes()[:60])
    good = noise_jpeg(1, 32, 24)
    (tmp_path / "4.jpg").write_bytes(good)
    with caplog.at_level(logging.WARNING):
        assert list(islice(open_source(str(tmp_path), loop=True), 3)) == [good] * 3
    assert [Path(line.split(":")[0]).name for line in caplog.messages] == ["1-pipe.jpg", "2-huge.jpg", "3-cut.png"]


def test_a_folder_that_vanishes_meanwhile_is_a_users_error(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(noise_jpeg(1, 32, 24))
    frames = open_source(str(folder), loop=True)
    next(frames)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="none of its 1 pictures can be read"):
        next(frames)


def test_a_video_that_is_cut_off_is_shown_as_far_as_it_goes_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(40):
        writer.write(np.full((48, 64, 3), number * 6, np.uint8))
    writer.release()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        count = len(list(open_source(str(cut), loop=False)))
    assert 0 < count < 30
    assert f"{cut}: ends after {count} of 40 pictures" in caplog.text


@pytest.mark.parametrize(
    ("source", "camera"),
    [
        ("0", True), ("/dev/video0", True), ("/dev/v4l/by-id/usb-x-index0", True), ("picamera", True),
        ("rtsp://h/s", True), ("http://h/", True), ("folder", False), ("clip.mp4", False), ("123456", False),
    ],
)  # fmt: skip
def test_cameras_are_told_from_files(source: str, camera: bool) -> None:
    assert is_camera(source) is camera


def test_a_tilt_turns_the_picture_and_keeps_its_size(tmp_path: Path) -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:, 47:53] = 255
    cv2.imwrite(str(tmp_path / "line.png"), picture)
    tilted = [decoded(jpeg) for jpeg in islice(open_source(str(tmp_path), loop=True, tilt_deg=20), 150)]
    angles = []
    for turned in tilted:
        assert turned.shape == picture.shape
        rows, columns = np.nonzero(turned[30:70, :, 0] > 128)
        angles.append(float(np.degrees(np.arctan(np.polyfit(rows, columns, 1)[0]))))
    assert angles[0] == pytest.approx(0, abs=1)
    assert (max(angles), min(angles)) == (pytest.approx(20, abs=2), pytest.approx(-20, abs=2))


def test_what_is_no_source_is_a_users_error_that_says_what_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_bytes(b"broken")
    for source in ("missing", "text.mp4", "empty", "broken"):
        with pytest.raises(UserError, match=f"--source .*{source}.*accepted: "):
            next(open_source(str(tmp_path / source), loop=True))
