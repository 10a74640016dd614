"""Pixels from pictures, and JPEGs from pixels; needs OpenCV."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from posture.wire import decoding
from posture.wire.frame import Limits, UndecodableError

Pixels: TypeAlias = npt.NDArray[np.uint8]
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]
LONGEST_SIDE = 65_500
"""Of a JPEG, in pixels."""


def decoded(picture: bytes) -> Pixels:
    """Decode a picture at its full size.

    Raises:
        UndecodableError: it is none, it is damaged, or larger than an analyzer takes.
    """
    return decoding.decode(picture, Limits(), LONGEST_SIDE)


def encoded(pixels: Pixels) -> bytes:
    """Return pixels, in the order blue, green, red, as JPEG.

    Raises:
        UndecodableError: there are none, or a side is longer than a JPEG's may be.
    """
    try:
        done, data = cv2.imencode(".jpg", pixels, QUALITY)
    except cv2.error:
        done = False
    if not done:
        raise UndecodableError("not_a_picture")
    return bytes(data)
