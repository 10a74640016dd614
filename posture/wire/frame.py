"""A frame as it comes over the wire: its bytes, its identity, its picture.

Identity and origin travel inside the picture, as JSON in a JPEG comment segment, so they are the same over
MQTT 5, MQTT 3.1.1, bridges and files. Everything here takes bytes from strangers: the only exception that
leaves is ``UndecodableError``.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from posture.wire import jpeg as jpeg_file
from posture.wire.errors import UndecodableError
from posture.wire.payload import unwrap

__all__ = [
    "JPEG", "PNG", "Identity", "Limits", "UndecodableError", "content_digest", "identify", "safe_name",
    "stamp", "unwrap",
]  # fmt: skip

JPEG, PNG = jpeg_file.START, b"\x89PNG\r\n\x1a\n"
MAX_ID, MAX_COMMENT, MAX_SEQ = 200, 8192, 2**53
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(2200, 1, 1, tzinfo=timezone.utc)
"""A camera's clock says something between them, right or wrong; near the ends of time nobody can count."""


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
    ignored: tuple[str, ...] = field(default=(), compare=False)
    """Fields that were there, and held what no camera says: a date in the year 9999, a number beyond MAX_SEQ."""


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
    parts, kept = [jpeg[:2], bytes((0xFF, jpeg_file.COM)), struct.pack(">H", len(data) + 2), data], 2
    for marker, start, end in jpeg_file.segments(jpeg):
        if marker == jpeg_file.COM and _identity(_parse(jpeg[start:end]), "comment") is not None:
            parts.append(jpeg[kept : start - 4])
            kept = end
    return b"".join((*parts, jpeg[kept:]))


def content_digest(picture: bytes) -> str:
    """Return the SHA-256, in hex, of a picture as it was before ``stamp``, whatever its stamp says."""
    hashed, kept = hashlib.sha256(), 0
    if picture.startswith(JPEG):
        for marker, start, end in jpeg_file.segments(picture):
            if marker == jpeg_file.COM and _identity(_parse(picture[start:end]), "comment") is not None:
                hashed.update(picture[kept : start - 4])
                kept = end
    hashed.update(memoryview(picture)[kept:])
    return hashed.hexdigest()


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


def _comment(picture: bytes) -> Mapping[str, Any]:
    """Return the fields of our comment, or nothing."""
    if picture.startswith(JPEG):
        for marker, start, end in jpeg_file.segments(picture):
            if marker == jpeg_file.COM and end - start <= MAX_COMMENT:
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
    captured_at, seq = _captured_at(fields.get("captured_at")), _seq(fields.get("seq"))
    boot_id = _boot_id(fields.get("boot_id"))
    read = {"captured_at": captured_at, "seq": seq, "boot_id": boot_id}
    ignored = tuple(name for name, value in read.items() if value is None and fields.get(name) is not None)
    return Identity(frame_id, captured_at, seq, boot_id, source, ignored)


def _boot_id(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable() else None


def _captured_at(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        # Python 3.10 doesn't read the Z
        at = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value))
        at = (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return at if EARLIEST <= at < LATEST else None


def _seq(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 17:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_SEQ:
        return None
    return value
