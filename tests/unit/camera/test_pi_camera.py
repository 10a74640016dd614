"""The Raspberry Pi's camera, as picamera2 behaves; a machine that has one is no test machine."""

from __future__ import annotations

import sys
from itertools import islice
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from posture.camera import pixels
from posture.camera.pi_camera import PiCamera
from posture.camera.sources import open_source
from posture.errors import UserError


class Picamera2:
    """What we use of picamera2: it hands out PIL's images, and is closed once."""

    def __init__(self) -> None:
        self.configuration: dict[str, object] = {}
        self.started = self.closed = False

    def create_video_configuration(self, main: dict[str, object]) -> dict[str, object]:
        return main

    def configure(self, configuration: dict[str, object]) -> None:
        self.configuration = configuration

    def start(self) -> None:
        self.started = True

    def capture_image(self) -> Image.Image:
        if not self.started:
            raise RuntimeError("Camera must be started")
        return Image.new("RGB", self.configuration["size"], (200, 100, 50))  # type: ignore[arg-type]

    def close(self) -> None:
        self.closed = True


class NoCamera(Picamera2):
    """As picamera2 ends where no camera is plugged in."""

    def __init__(self) -> None:
        raise IndexError("list index out of range")


def install(monkeypatch: pytest.MonkeyPatch, kind: type[Picamera2]) -> None:
    module = ModuleType("picamera2")
    module.Picamera2 = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)


def test_its_pictures_are_jpegs_in_their_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Picamera2)
    for jpeg in islice(open_source("picamera", loop=False), 2):
        picture = pixels.decoded(jpeg)
        assert picture.shape == (720, 1280, 3)
        assert np.abs(picture.astype(int) - (50, 100, 200)).max() < 6


def test_it_is_let_go() -> None:
    camera = Picamera2()
    PiCamera(camera).close()
    assert camera.closed


def test_a_pi_without_a_camera_is_a_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, NoCamera)
    with pytest.raises(UserError, match=r"--source picamera: there is no camera that can be used .*cable"):
        next(open_source("picamera", loop=False))


def test_without_picamera2_the_error_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"apt-get install python3-picamera2.*--system-site-packages"):
        next(open_source("picamera", loop=False))
