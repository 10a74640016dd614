"""Cameras that OpenCV opens: webcams and RTSP."""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from posture.camera import pixels
from posture.camera.live import CREDENTIALS, CameraLostError, CameraRefusedError
from posture.natural_order import some_of
from posture.system import native_output
from posture.wire.frame import UndecodableError

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long a camera in the network may take to be opened, and for each picture."""
FAILED_READS_S = 2.0
"""A webcam may fail its first reads, and one now and then."""
READ_AGAIN_S = 0.1
WEBCAMS = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
IN_TIME = [
    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1000 * ANSWER_S)),
    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1000 * ANSWER_S)),
]
FFMPEG_SAYS = re.compile(r"\[\w+ @ \w+\] (.+)")
"""A line of FFmpeg's, which OpenCV has no other way to pass on."""
REFUSED = re.compile(r"\b(401|403)\b")


class VideoCamera:
    """A camera that OpenCV has opened."""

    on_demand = False

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture

    def wait(self) -> None:
        """See ``Camera``."""
        give_up_at = time.monotonic() + FAILED_READS_S
        while not self._capture.grab():
            if time.monotonic() > give_up_at:
                raise CameraLostError("gives no picture; is it unplugged, off, or in use by another program?")
            time.sleep(READ_AGAIN_S)

    def picture(self) -> bytes:
        """See ``Camera``."""
        # so that no noise of months piles up; what it says of one picture helps nobody
        native_output.taken()
        read, picture = self._capture.retrieve()
        if not read or picture is None:
            raise UndecodableError("undecodable")
        return pixels.encoded(np.asarray(picture, np.uint8))

    def close(self) -> None:
        """See ``Camera``."""
        self._capture.release()


def open_webcam(device: str) -> VideoCamera:
    """Open a webcam.

    Args:
        device: its number, or its path, such as ``/dev/video0`` or ``/dev/v4l/by-id/...``.

    Raises:
        CameraRefusedError: there is none.
    """
    capture = cv2.VideoCapture(int(device) if device.isdecimal() else device, WEBCAMS)
    if capture.isOpened():
        # a longer buffer would deliver pictures that are several frames old
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return VideoCamera(capture)
    capture.release()
    path = Path(f"/dev/video{device}" if device.isdecimal() else device)
    if sys.platform == "linux" and not path.exists():
        there = some_of(map(str, Path("/dev").glob("video[0-9]*")))
        raise CameraRefusedError(
            f"there is no webcam at {path}; accepted: {there or 'none, for none is plugged in'}"
        )
    raise CameraRefusedError(f"{path} can't be opened as a webcam; accepted: one that this user may read")


def open_rtsp(url: str, secret: str) -> VideoCamera:
    """Open an RTSP camera.

    Args:
        url: with user and password, percent-encoded.
        secret: the password as it is in ``url``, which messages must not repeat.

    Raises:
        CameraRefusedError: it refuses user or password.
        CameraLostError: it does not answer, or has no video there.
    """
    native_output.taken()
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, IN_TIME)
    if capture.isOpened():
        return VideoCamera(capture)
    capture.release()
    lines = native_output.taken()
    log.debug("OpenCV and FFmpeg say: %s", lines)
    said = [match[1] for match in map(FFMPEG_SAYS.match, lines) if match]
    why = said[-1] if said else "no answer, or no video there"
    if secret:
        why = why.replace(secret, "***")
    if REFUSED.search(why):
        raise CameraRefusedError(f"{why}; accepted: the right {CREDENTIALS}")
    raise CameraLostError(why)
