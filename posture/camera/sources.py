"""Sources of pictures: a folder, a video file, a webcam, picamera2."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from posture.errors import UserError
from posture.wire.frame import JPEG, Limits

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]
TILT_PERIOD = 150
"""Frames of one full swing of ``--tilt``."""
ACCEPTED = "accepted: a folder of pictures, a video file, a webcam's number (0), or picamera"


def open_source(source: str, *, loop: bool, tilt_deg: float = 0.0) -> Iterator[bytes]:
    """Yield JPEGs. A JPEG file is passed on as it is, unless it is to be tilted.

    Args:
        source: folder, video file, webcam number, or ``picamera``.
        loop: start a folder or video again at its end.
        tilt_deg: rotate slowly to and fro, by up to so many degrees.

    Raises:
        UserError: there is no such source, or it has no pictures.
    """
    if source == "picamera":
        frames = _picamera()
    elif source.isdecimal():
        frames = _webcam(int(source))
    elif Path(source).is_dir():
        frames = _folder(Path(source), loop)
    elif Path(source).is_file():
        frames = _video(source, loop)
    else:
        raise UserError(f"--source {source}: there is no such folder or file; {ACCEPTED}")
    return _tilted(frames, tilt_deg) if tilt_deg else frames


def _folder(folder: Path, loop: bool) -> Iterator[bytes]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(
            f"--source {folder}: has no picture; accepted: files ending in {', '.join(sorted(SUFFIXES))}"
        )

    def frames() -> Iterator[bytes]:
        while True:
            count = 0
            for path in paths:
                jpeg = _jpeg_of(path)
                if jpeg is not None:
                    count += 1
                    yield jpeg
            if not count:
                raise UserError(f"--source {folder}: none of its {len(paths)} pictures can be read; {ACCEPTED}")
            if not loop:
                return

    return frames()


def _jpeg_of(path: Path) -> bytes | None:
    """Return a picture file as JPEG, unchanged if it is one; None, after a warning, if it can't be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        log.warning("%s: %s; skipped", path, error.strerror)
        return None
    jpeg = data if data.startswith(JPEG) else None
    if jpeg is None and data:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        jpeg = None if picture is None else _encode(picture)
    if jpeg is None or len(jpeg) > Limits.max_bytes:
        log.warning("%s: not a readable picture, or larger than %d bytes; skipped", path, Limits.max_bytes)
        return None
    return jpeg


def _video(path: str, loop: bool) -> Iterator[bytes]:
    capture = cv2.VideoCapture(path)
    if not capture.isOpened():
        raise UserError(f"--source {path}: can't be opened as a video; {ACCEPTED}")

    def frames() -> Iterator[bytes]:
        read, picture = capture.read()
        if not read:
            raise UserError(f"--source {path}: no picture can be read from it; {ACCEPTED}")
        while read:
            yield _encode(picture)
            read, picture = capture.read()
            if not read and loop:
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                read, picture = capture.read()
        capture.release()

    return frames()


def _webcam(number: int) -> Iterator[bytes]:
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise UserError(f"--source {number}: there is no webcam of that number; {ACCEPTED}")
    # a longer buffer would deliver pictures that are several frames old
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def frames() -> Iterator[bytes]:
        read, picture = capture.read()
        while read:
            yield _encode(picture)
            read, picture = capture.read()
        raise UserError(f"--source {number}: the webcam gives no picture; is it in use, or unplugged? {ACCEPTED}")

    return frames()


def _picamera() -> Iterator[bytes]:
    try:
        from picamera2 import Picamera2  # noqa: PLC0415 - on a Pi only, from its system packages
    except ImportError:
        raise UserError(
            "--source picamera: picamera2 is not installed: apt-get install python3-picamera2"
        ) from None

    def frames() -> Iterator[bytes]:
        camera: Any = Picamera2()
        camera.configure(camera.create_video_configuration({"format": "RGB888", "size": (1280, 720)}))
        camera.start()
        try:
            while True:
                yield _encode(camera.capture_array())
        finally:
            camera.stop()

    return frames()


def _tilted(frames: Iterator[bytes], degrees: float) -> Iterator[bytes]:
    for number, jpeg in enumerate(frames):
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            log.warning("a picture can't be decoded, so it can't be tilted; skipped")
            continue
        height, width = picture.shape[:2]
        angle = degrees * math.sin(2 * math.pi * number / TILT_PERIOD)
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        yield _encode(cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE))


def _encode(picture: npt.NDArray[np.uint8]) -> bytes:
    encoded, data = cv2.imencode(".jpg", picture, QUALITY)
    if not encoded:
        raise UserError("--source: a picture can't be encoded as JPEG")
    return bytes(data)
