"""A video file as JPEGs; needs OpenCV."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from posture.camera import pixels
from posture.errors import UserError
from posture.system import native_output
from posture.wire.frame import UndecodableError

log = logging.getLogger(__name__)

LEAST_OF_PROMISED = 0.9
"""A video's header may only estimate how many pictures it has."""
ACCEPTED = "accepted: a video that FFmpeg can read, or a picture ending in .jpg, .jpeg, .png or .webp"


def open_video(path: Path, *, loop: bool) -> Iterator[bytes]:
    """Return a video's pictures as JPEGs.

    Args:
        path: a file.
        loop: start again at its end.

    Raises:
        UserError: it is no video; while it is read: it has no picture.
    """
    return _frames(path, _open(path), loop)


def _frames(path: Path, capture: cv2.VideoCapture, loop: bool) -> Iterator[bytes]:
    while True:
        count = 0
        promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        while (read := capture.read())[0]:
            count += 1
            yield _as_frame(path, np.asarray(read[1], np.uint8))
        capture.release()
        if not count:
            raise UserError(f"--source {path}: no picture can be read from it; {ACCEPTED}")
        if count < LEAST_OF_PROMISED * promised:
            log.warning("%s: ends after %d of %d pictures; is it cut off or damaged?", path, count, promised)
        if not loop:
            return
        # to go back to the start is more than every container can
        capture = _open(path)


def _as_frame(path: Path, picture: pixels.Pixels) -> bytes:
    try:
        return pixels.encoded(picture)
    except UndecodableError:
        raise UserError(
            f"--source {path}: {picture.shape[1]} x {picture.shape[0]} pixels are no JPEG's size"
        ) from None


def _open(path: Path) -> cv2.VideoCapture:
    native_output.taken()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise UserError(f"--source {path}: can't be opened as a video; {ACCEPTED}")
    return capture
