#!/usr/bin/env python3
"""An IP camera that speaks RTSP: built once from rtsp_camera/ and kept outside the checkout.

python3 tests/support/rtsp_server.py     # builds it if it is missing (seconds), says where it is
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from go_tools import BinariesMissingError, GoTools
from servers import Server, free_port

RTSP_CAMERA = GoTools(
    Path(__file__).resolve().parent / "rtsp_camera",
    "rtsp-camera",
    "an RTSP camera for the tests: some seconds, once",
    ("rtsp_camera",),
)


class RtspCamera(Server):
    """A camera at ``url`` that shows a folder's JPEGs in turn; width and height are to be multiples of 8.

    Args:
        folder: for its log.
        pictures: the JPEGs.
        fps: pictures a second.
        user: whom it serves; nobody in particular, if empty.
        password: of that user.
    """

    def __init__(self, folder: Path, pictures: Path, *, fps: int = 25, user: str = "", password: str = "") -> None:
        super().__init__()
        try:
            program = RTSP_CAMERA.ensure() / "rtsp_camera"
        except BinariesMissingError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/stream"
        self.log = folder / "rtsp_camera.log"
        # env gives them to the program alone, and is no shell
        self.command = [
            "env", f"CAMERA_USERNAME={user}", f"CAMERA_PASSWORD={password}",
            str(program), f"127.0.0.1:{self.port}", str(pictures), str(fps),
        ]  # fmt: skip


if __name__ == "__main__":
    try:
        print(RTSP_CAMERA.ensure())
    except BinariesMissingError as error:
        sys.exit(f"error: {error}")
