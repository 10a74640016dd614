"""A frame's picture as pixels. A camera that passes JPEGs on needs neither this nor the packages that it takes.

The bytes are untrusted: the only exception that leaves is ``UndecodableError``.
"""

from __future__ import annotations

import math
import re
import struct

import cv2
import numpy as np
import numpy.typing as npt

from posture.wire import jpeg as jpeg_file
from posture.wire.errors import UndecodableError
from posture.wire.frame import JPEG, PNG, Limits

SCANS_OF_THE_LARGEST = 10
"""A picture of ``max_pixels`` may have so many scans, a smaller one more: each is a pass over all pixels."""
FULL_SCALE_SHARE = 0.5
"""Share of ``max_pixels`` that a PNG or WebP may have: only a JPEG can be decoded small from the start."""
SCALES = (8, 4, 2)
"""A JPEG may be decoded at 1/8, 1/4, 1/2: those between, such as 3/4, take longer than the whole (no SIMD)."""
HARMLESS = re.compile(r"^Corrupt JPEG data: \d extraneous bytes|^(?!Corrupt JPEG data|Premature end)")
"""What the decoder may warn of in a picture that is whole: cheap webcams pad their scans, by a few bytes."""


def decode(picture: bytes, limits: Limits, max_side: int) -> npt.NDArray[np.uint8]:
    """Decode to BGR, uint8, of shape (height, width, 3), upright by its EXIF orientation.

    Args:
        picture: JPEG, PNG or WebP.
        limits: checked against the header before anything is decoded.
        max_side: the longer side of the result is at most this; large JPEGs are decoded at reduced scale.

    Raises:
        UndecodableError: with the reason.
    """
    if not picture:
        raise UndecodableError("empty")
    if len(picture) > limits.max_bytes:
        raise UndecodableError("too_many_bytes")
    if picture.startswith(JPEG):
        declared = jpeg_file.header(picture)
        pixels = _checked(declared.width, declared.height, limits.max_pixels)
        jpeg_file.check_scans(picture, declared, SCANS_OF_THE_LARGEST * limits.max_pixels // pixels)
        decoded = _decode_jpeg(picture, declared, max_side)
    else:
        _checked(*_size(picture), int(limits.max_pixels * FULL_SCALE_SHARE))
        _check_complete(picture)
        decoded = _decode_at_full_scale(picture)
    side = max(decoded.shape[:2])
    if side > max_side:
        scale = max_side / side
        size = (max(1, round(decoded.shape[1] * scale)), max(1, round(decoded.shape[0] * scale)))
        # a JPEG is less than twice too large by now, and there linear is as good as area at a quarter of its cost
        reduced = cv2.INTER_LINEAR if 2 * max_side > side else cv2.INTER_AREA
        decoded = np.asarray(cv2.resize(decoded, size, interpolation=reduced), np.uint8)
    return decoded


def _checked(width: int, height: int, max_pixels: int) -> int:
    """Return the number of pixels of a declared size."""
    if width == 0 or height == 0:
        raise UndecodableError("zero_area")
    if width * height > max_pixels:
        raise UndecodableError("too_many_pixels")
    return width * height


def _decode_at_full_scale(picture: bytes) -> npt.NDArray[np.uint8]:
    """Decode a PNG or WebP; the decoders refuse one of which only a part is there."""
    try:
        decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise UndecodableError("undecodable")
    return np.asarray(decoded, np.uint8)


def _size(picture: bytes) -> tuple[int, int]:
    """Return (width, height) as the header of a PNG or WebP declares them."""
    if picture.startswith(PNG):
        if len(picture) < 24:
            raise UndecodableError("truncated")
        if picture[12:16] != b"IHDR":
            raise UndecodableError("not_a_picture")
        width, height = struct.unpack(">II", picture[16:24])
        return width, height
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return _webp_size(picture)
    raise UndecodableError("not_a_picture")


def _check_complete(picture: bytes) -> None:
    """Refuse a PNG or WebP that ends before its end."""
    if picture.startswith(PNG):
        complete = b"IEND" in picture
    else:
        complete = len(picture) >= 8 + int.from_bytes(picture[4:8], "little")
    if not complete:
        raise UndecodableError("truncated")


def _webp_size(picture: bytes) -> tuple[int, int]:
    if len(picture) < 30:
        raise UndecodableError("truncated")
    kind = picture[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", picture[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(picture[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(picture[24:27], "little") + 1, int.from_bytes(picture[27:30], "little") + 1
    raise UndecodableError("not_a_picture")


def _decode_jpeg(jpeg: bytes, of: jpeg_file.Header, min_side: int) -> npt.NDArray[np.uint8]:
    """Decode to BGR, upright by its EXIF orientation, at the smallest of SCALES that is not under ``min_side``.

    Args:
        jpeg: a whole file; see ``jpeg.check_scans``.
        of: its header.
        min_side: of the longer side, in pixels.

    Raises:
        UndecodableError: ``truncated`` or ``damaged`` if only a part of the picture can be decoded, which would be
            filled up with grey; else ``undecodable``.
    """
    import simplejpeg  # noqa: PLC0415 - not among Debian's packages: a camera there turns PNGs into JPEGs without it

    side = max(of.width, of.height)
    scale = next((scale for scale in SCALES if side >= scale * min_side), 1)
    least = {"min_width" if of.width >= of.height else "min_height": math.ceil(side / scale)}
    try:
        pixels = simplejpeg.decode_jpeg(jpeg, "BGR", strict=True, **least)
    except ValueError as error:
        if not HARMLESS.search(str(error)):
            raise UndecodableError("truncated" if "remature end" in str(error) else "damaged") from None
        try:
            pixels = simplejpeg.decode_jpeg(jpeg, "BGR", strict=False, **least)
        except ValueError:
            raise UndecodableError("undecodable") from None
    return _upright(pixels, jpeg_file.orientation(jpeg))


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn and mirror a picture as EXIF's orientation, 1 to 8, asks for."""
    if orientation in (5, 6, 7, 8):
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip), np.uint8)
