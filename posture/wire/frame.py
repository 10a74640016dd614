"""A frame as it comes over the wire: its bytes, its identity, its picture.

Identity and origin travel inside the picture, as JSON in a JPEG comment segment, so they are the same over
MQTT 5, MQTT 3.1.1, bridges and files. Everything here takes bytes from strangers: the only exception that
leaves is ``UndecodableError``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
BASE64_HEADS = (b"/9j/", b"iVBORw0KGgo", b"UklGR")
"""JPEG, PNG and RIFF (WebP) in base64."""
COM, SOS, EOI = 0xFE, 0xDA, 0xD9
STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length: decoders step over them."""
NOT_BEFORE_SCAN = frozenset({0x00, 0xD8, EOI})
"""A stuffed zero, a second start, an end: a file that has one of these before its scan is broken."""
MARKER_IN_SCAN = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""What ends a scan's data: no stuffed zero, no restart, no fill byte."""
SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers: they carry the picture's size."""
MAX_ID, MAX_COMMENT, MAX_SEQ = 200, 8192, 2**53
MAX_SEGMENTS, MAX_SCANS = 1000, 100
"""A progressive JPEG has about ten scans; the thousands that fit in 20 MB would keep the decoder busy for hours."""


class UndecodableError(Exception):
    """The payload is not a picture that is accepted. ``reason`` is a short snake_case word for the row."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Limits:
    """Bounds of what is decoded for an untrusted sender."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000


@dataclass(frozen=True)
class Identity:
    """Which frame this is, and where it comes from."""

    frame_id: str
    captured_at: datetime | None = None
    """By the camera's clock, UTC."""
    seq: int | None = None
    """Counts from 0 within one boot of the camera."""
    boot_id: str | None = None
    source: str = "hash"
    """``comment``, ``properties`` or ``hash``."""


def unwrap(payload: bytes) -> bytes:
    """Return the picture's bytes: the payload itself, or what it holds in base64."""
    if not payload.lstrip()[:16].startswith(BASE64_HEADS):
        return payload
    compact = b"".join(payload.split())
    try:
        return base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
    except binascii.Error:
        return payload


def identify(picture: bytes, properties: Mapping[str, str]) -> Identity:
    """Return a frame's identity: of its comment, else of its MQTT user properties, else its SHA-256."""
    for source, fields in (("comment", _comment(picture)), ("properties", properties)):
        identity = _identity(fields, source)
        if identity is not None:
            return identity
    return Identity(hashlib.sha256(picture).hexdigest())


def stamp(jpeg: bytes, identity: Identity) -> bytes:
    """Return the JPEG with the identity in a comment segment; nothing is re-encoded.

    Args:
        jpeg: a JPEG file; a comment of ours in it is replaced.
        identity: what to say of it.

    Raises:
        UndecodableError: it is no JPEG.
    """
    if not jpeg.startswith(JPEG):
        raise UndecodableError("not_a_jpeg")
    fields: dict[str, Any] = {"id": identity.frame_id}
    if identity.captured_at is not None:
        fields["captured_at"] = identity.captured_at.astimezone(timezone.utc).isoformat()
    if identity.seq is not None:
        fields["seq"] = identity.seq
    if identity.boot_id is not None:
        fields["boot_id"] = identity.boot_id
    data = json.dumps(fields, separators=(",", ":")).encode()
    # ours goes first, so that a spool can read it without reading the whole picture
    parts, kept = [jpeg[:2], bytes((0xFF, COM)), struct.pack(">H", len(data) + 2), data], 2
    for marker, start, end in _segments(jpeg):
        if marker == COM and _identity(_parse(jpeg[start:end]), "comment") is not None:
            parts.append(jpeg[kept : start - 4])
            kept = end
    return b"".join((*parts, jpeg[kept:]))


def safe_name(frame_id: str) -> str:
    """Return a file name without suffix for an id, at most 100 characters long; two ids never share one.

    It is the id itself where that is harmless, else what is harmless of it, and its hash.
    """
    harmless = re.sub(r"[^A-Za-z0-9._-]", "_", frame_id)[:67].lstrip(".")
    # an id that looks like such a name gets a hash, too: it could be another id's name
    if harmless and harmless == frame_id and not re.search(r"\.[0-9a-f]{32}$", frame_id):
        return frame_id
    digest = hashlib.sha256(frame_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{harmless or 'frame'}.{digest[:32]}"


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
    width, height = _size(picture)
    if width == 0 or height == 0:
        raise UndecodableError("zero_area")
    if width * height > limits.max_pixels:
        raise UndecodableError("too_many_pixels")
    _check_complete(picture)
    try:
        decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), _scale_flag(picture, max(width, height), max_side))
    except cv2.error:
        decoded = None
    if decoded is None:
        raise UndecodableError("undecodable")
    side = max(decoded.shape[:2])
    if side > max_side:
        scale = max_side / side
        size = (max(1, round(decoded.shape[1] * scale)), max(1, round(decoded.shape[0] * scale)))
        # a JPEG is less than twice too large by now, and there linear is as good as area at a quarter of its cost
        reduced = cv2.INTER_LINEAR if 2 * max_side > side else cv2.INTER_AREA
        decoded = cv2.resize(decoded, size, interpolation=reduced)
    return np.asarray(decoded, np.uint8)


def _scale_flag(picture: bytes, side: int, max_side: int) -> int:
    """Return imread's flag for the smallest scale that is not under ``max_side``; only JPEG has faster ones."""
    if picture.startswith(JPEG):
        for divisor, flag in (
            (8, cv2.IMREAD_REDUCED_COLOR_8),
            (4, cv2.IMREAD_REDUCED_COLOR_4),
            (2, cv2.IMREAD_REDUCED_COLOR_2),
        ):
            if side // divisor >= max_side:
                return int(flag)
    return int(cv2.IMREAD_COLOR)


def _size(picture: bytes) -> tuple[int, int]:
    """Return (width, height) as the header declares them."""
    if picture.startswith(JPEG):
        for marker, start, _end in _segments(picture):
            if marker in SIZE_MARKERS and len(picture) >= start + 5:
                height, width = struct.unpack(">HH", picture[start + 1 : start + 5])
                return width, height
        raise UndecodableError("truncated")
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
    """Refuse truncated data, which the decoder would fill with grey. Cameras may append data after the end."""
    if picture.startswith(JPEG):
        complete = _has_end(picture)
    elif picture.startswith(PNG):
        complete = b"IEND" in picture
    else:
        complete = len(picture) >= 8 + int.from_bytes(picture[4:8], "little")
    if not complete:
        raise UndecodableError("truncated")


def _has_end(jpeg: bytes) -> bool:
    """Return whether the last scan ends with the end marker; a thumbnail's, before the scan, does not count."""
    at = next((end for marker, _start, end in _segments(jpeg) if marker == SOS), len(jpeg))
    scans = 1
    for _ in range(MAX_SEGMENTS):
        found = MARKER_IN_SCAN.search(jpeg, at)
        if found is None:
            return False
        marker, at = found[1][0], found.end()
        if marker == EOI:
            return True
        if marker in STANDALONE:
            continue
        scans += marker == SOS
        if scans > MAX_SCANS:
            raise UndecodableError("too_many_scans")
        at += int.from_bytes(jpeg[at : at + 2], "big")
    return False


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


def _segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the data of each segment, the first scan's header last; stops at invalid data.

    It has to read just what the decoder reads: what only one of them steps over could hide another size.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        if at + 4 > len(jpeg) or jpeg[at] != 0xFF:
            return
        marker = jpeg[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in STANDALONE:
            at += 2
            continue
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(jpeg) or marker in NOT_BEFORE_SCAN:
            return
        yield marker, at + 4, at + 2 + length
        if marker == SOS:
            return
        at += 2 + length


def _comment(picture: bytes) -> Mapping[str, Any]:
    """Return the fields of our comment, or nothing."""
    if picture.startswith(JPEG):
        for marker, start, end in _segments(picture):
            if marker == COM and end - start <= MAX_COMMENT:
                fields = _parse(picture[start:end])
                if "id" in fields:
                    return fields
    return {}


def _parse(data: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _identity(fields: Mapping[str, Any], source: str) -> Identity | None:
    frame_id = fields.get("id")
    if not isinstance(frame_id, str) or not 0 < len(frame_id) <= MAX_ID or not frame_id.isprintable():
        return None
    boot_id = fields.get("boot_id")
    if not isinstance(boot_id, str) or not 0 < len(boot_id) <= MAX_ID or not boot_id.isprintable():
        boot_id = None
    return Identity(frame_id, _captured_at(fields.get("captured_at")), _seq(fields.get("seq")), boot_id, source)


def _captured_at(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        # Python 3.10 doesn't read the Z
        at = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value))
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def _seq(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 17:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_SEQ:
        return None
    return value
