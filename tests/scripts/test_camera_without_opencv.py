"""A camera that has paho-mqtt and PyYAML and nothing else: neither OpenCV nor numpy nor mediapipe."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import paho
import pytest
import yaml
from camera_script import publishing, result_of
from farm import ROOT, Analyzer, clip_jpegs, ended, noise_jpeg
from hostile import encoded, noise_picture
from http_camera_server import HttpCamera, part, snapshot, stream
from servers import Mosquitto

pytestmark = pytest.mark.xdist_group("camera")

NEEDS_OPENCV = (
    "needs the Python package cv2, which is not installed; get it: python3 -m pip install -r requirements/"
    "camera-video.txt (in a virtual environment), or on a 32-bit Pi sudo apt-get install python3-opencv"
)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """What requirements/camera.txt installs, for a Python that looks at no other packages."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    for package in (paho, yaml):
        place = Path(next(iter(package.__path__)))
        (folder / place.name).symlink_to(place)
    return folder


def published(packages: Path, broker: int, *flags: str) -> tuple[int, dict[str, int], str]:
    with publishing(
        packages.parent, broker, "--drain", "60", "--fps", "50", *flags,
        python=(sys.executable, "-S"), PYTHONPATH=str(packages),
    ) as camera:  # fmt: skip
        return result_of(camera)


def test_a_folder_of_jpegs_is_published_and_leaves_the_spool_with_its_receipts(
    mosquitto: Mosquitto, tmp_path: Path, packages: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, jpeg in enumerate(clip_jpegs(10)):
        (folder / f"{number}.jpg").write_bytes(jpeg)
    analyzer = Analyzer(tmp_path, mosquitto.port)
    with ended(analyzer):
        analyzer.start()
        status, result, log = published(packages, mosquitto.port, "--source", str(folder), "--drain", "240")
        assert analyzer.stop() == 0
    assert status == 0, log
    assert (result["captured"], result["receipted"], result["in_spool"], result["dropped"]) == (10, 10, 0, 0)
    assert {row["frame_id"] for row in analyzer.rows()} == {f"pi1-{result['boot_id']}-{n}" for n in range(10)}


@pytest.mark.parametrize("kind", ["mjpeg", "snapshot"])
def test_a_camera_in_the_network_that_sends_jpegs_is_published(
    mosquitto: Mosquitto, packages: Path, kind: str
) -> None:
    jpeg = noise_jpeg(1, 32, 24)
    answer = stream(lambda: itertools.repeat(part(jpeg))) if kind == "mjpeg" else snapshot(jpeg)
    with HttpCamera(answer) as camera:
        flags = ["--source", camera.url, "--limit", "3", "--no-spool"]
        status, result, log = published(packages, mosquitto.port, *flags)
    assert (status, result["acknowledged"]) == (0, 3), log


@pytest.mark.parametrize("source", ["0", "/dev/video0", "rtsp://127.0.0.1:9/stream", "clip.mp4", "a.png", "folder"])
def test_a_source_that_needs_opencv_says_how_to_get_it(
    mosquitto: Mosquitto, tmp_path: Path, packages: Path, source: str
) -> None:
    (tmp_path / "clip.mp4").symlink_to(ROOT / "samples" / "side_walk.mp4")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "folder" / "a.webp"):
        path.write_bytes(encoded(noise_picture(), path.suffix[1:].upper()))
    named = str(tmp_path / source) if (tmp_path / source).exists() else source
    status, _, log = published(packages, mosquitto.port, "--source", named)
    assert status == 2
    line = log.splitlines()[-1]
    assert line.startswith(f"error: --source {named}")
    assert NEEDS_OPENCV in line
    assert "Traceback" not in log


def test_a_camera_in_the_network_that_sends_pngs_says_how_to_get_opencv(
    mosquitto: Mosquitto, packages: Path
) -> None:
    with HttpCamera(snapshot(encoded(noise_picture(), "PNG"), "image/png")) as camera:
        status, _, log = published(packages, mosquitto.port, "--source", camera.url, "--no-spool")
    assert status == 2
    assert f"error: --source {camera.url}: a PNG or WebP {NEEDS_OPENCV}" in log
    assert "Traceback" not in log


def test_a_tilt_says_how_to_get_opencv(mosquitto: Mosquitto, tmp_path: Path, packages: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(noise_jpeg(1, 32, 24))
    status, _, log = published(packages, mosquitto.port, "--source", str(tmp_path / "a.jpg"), "--tilt", "5")
    assert (status, log.count("\n")) == (2, 1)
    assert f"error: --tilt {NEEDS_OPENCV}" in log


def test_an_opencv_whose_libraries_are_missing_is_one_line(
    mosquitto: Mosquitto, tmp_path: Path, packages: Path
) -> None:
    missing = "libGL.so.1: cannot open shared object file: No such file or directory"
    (packages / "cv2.py").write_text(f"raise ImportError({missing!r})\n")
    status, _, log = published(packages, mosquitto.port, "--source", "0")
    assert (status, log.count("\n")) == (2, 1)
    assert f"error: --source 0: a webcam needs OpenCV, which can't be loaded: {missing}" in log
