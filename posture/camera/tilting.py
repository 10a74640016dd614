"""Pictures that tilt slowly to and fro, for trying things out; needs OpenCV."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import cv2
import numpy as np

from posture.camera import opencv, pixels
from posture.wire.frame import UndecodableError

log = logging.getLogger(__name__)

PERIOD = 150
"""Frames of one full swing."""


def tilted(frames: Iterator[bytes], degrees: float) -> Iterator[bytes]:
    """Yield JPEGs, each turned by up to so many degrees."""
    for number, jpeg in enumerate(frames):
        try:
            yield _turned(jpeg, degrees * math.sin(2 * math.pi * number / PERIOD))
        except UndecodableError as error:
            log.warning("a picture can't be tilted: %s; skipped", error)


def _turned(jpeg: bytes, degrees: float) -> bytes:
    with opencv.needed_for("--tilt of a JPEG"):
        picture = pixels.decoded(jpeg)
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turned = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return pixels.encoded(np.asarray(turned, np.uint8))
