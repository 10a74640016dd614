"""Pictures as JPEGs: those that are JPEGs stay as they are."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from posture.wire.frame import JPEG, Limits, UndecodableError, decode

Pixels: TypeAlias = "npt.NDArray[np.uint8]"
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]
LONGEST_SIDE = 65_500
"""Of a JPEG, in pixels."""


def pixels_of(picture: bytes) -> Pixels:
    """Decode a picture at its full size.

    Raises:
        UndecodableError: it is none, it is damaged, or larger than an analyzer takes.
    """
    return decode(picture, Limits(), LONGEST_SIDE)


def as_jpeg(picture: bytes | Pixels) -> bytes:
    """Return a picture as JPEG, unchanged if it is one.

    Args:
        picture: a JPEG, PNG or WebP as bytes, or pixels in the order blue, green, red.

    Raises:
        UndecodableError: it is none, it is damaged, or larger than an analyzer takes.
    """
    if isinstance(picture, bytes):
        if len(picture) > Limits.max_bytes:
            raise UndecodableError("too_many_bytes")
        if picture.startswith(JPEG):
            return picture
        picture = pixels_of(picture)
    try:
        encoded, data = cv2.imencode(".jpg", picture, QUALITY)
    except cv2.error:  # no pixels, or a side that is longer than a JPEG's may be
        encoded = False
    if not encoded:
        raise UndecodableError("not_a_picture")
    return bytes(data)
