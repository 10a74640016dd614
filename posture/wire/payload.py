"""What cameras really send, and the picture in it.

Beside a picture's own bytes that is base64 in every dress that scripts and flow editors put it in, a JSON object
around it, and junk before a picture's start. No byte of it is trusted.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

PICTURE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF.{4}WEBP", re.DOTALL)
"""How a JPEG, a PNG and a WebP begin."""
BASE64_PICTURE = re.compile(rb"[/_]9j[/_]|%2[Ff]9j%2[Ff]|iVBORw0KGg|UklGR")
"""How they begin in base64: plain, URL-safe, percent-encoded."""
HEX_PICTURE = re.compile(rb"\s*(?:0x)?((?:ffd8ff|89504e47|52494646)[0-9a-f]*)\s*\0*$", re.IGNORECASE)
RUN = re.compile(rb"[A-Za-z0-9+/]*")
CLOSING = re.compile(rb"=*(\\[nr])*(\0*$|['\"}\])&;,]|--)")
"""What may follow base64: its padding, and the end of what it is wrapped in."""
BLANKS = re.compile(rb"[ \t\r\n]+")
BOUNDARY = re.compile(rb"\r?\n--")
"""The end of one part of a multipart message."""
HEADROOM = 4096
"""A picture, or its base64, begins within this many bytes: a header of HTTP or multipart fits."""
UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
IMAGE_KEYS = ("image", "data")
"""Keys of a JSON object under which pictures are looked for."""


def unwrap(payload: bytes, key: str = "") -> bytes:
    """Return the picture's bytes in a payload; what holds none is returned as it is.

    Args:
        payload: a picture, with or without junk before it; its base64, which may be quoted, a data URI, URL-safe,
            percent-encoded, in lines, ended by NUL; or a JSON object that holds one of these.
        key: another key than ``IMAGE_KEYS`` for the picture in a JSON object.
    """
    if PICTURE.match(payload):
        return payload
    text = payload
    if payload[:2] in UTF16:
        text = payload[2:].decode(UTF16[payload[:2]], "ignore").encode("ascii", "ignore")
    if text.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        picture = _in_json(text, (key, *IMAGE_KEYS) if key else IMAGE_KEYS)
    else:
        picture = _in_text(text)
    return payload if picture is None else picture


def _in_json(text: bytes, keys: Sequence[str]) -> bytes | None:
    try:
        fields = json.loads(text.rstrip(b"\0"))
    except (ValueError, RecursionError):
        return _in_text(text)  # what Python prints of a dictionary, say
    if not isinstance(fields, dict):
        return None
    for key in keys:
        value = fields.get(key)
        if isinstance(value, dict):
            value = value.get("data")  # a Buffer as Node.js writes it
        if isinstance(value, str):
            picture = _in_text(value.encode("utf-8", "replace"))
        elif isinstance(value, list):
            picture = _in_numbers(value)
        else:
            picture = None
        if picture is not None:
            return picture
    return None


def _in_numbers(values: Sequence[object]) -> bytes | None:
    try:
        picture = bytes(values)  # type: ignore[arg-type]  # what is no byte raises
    except (TypeError, ValueError):
        return None
    return picture if PICTURE.match(picture) else None


def _in_text(text: bytes) -> bytes | None:
    """Return the picture in bytes that are not JSON, whichever form of it begins first."""
    plain = PICTURE.search(text, 0, HEADROOM)
    coded = BASE64_PICTURE.search(text, 0, HEADROOM)
    if plain is not None and (coded is None or plain.start() < coded.start()):
        return text[plain.start() :]
    if coded is not None:
        return _decoded(text[coded.start() :])
    digits = HEX_PICTURE.match(text)
    return bytes.fromhex(digits[1].decode()[: len(digits[1]) & ~1]) if digits else None


def _decoded(text: bytes) -> bytes | None:
    text = BOUNDARY.split(text, maxsplit=1)[0]
    if b"%" in text:
        text = unquote_to_bytes(text)
    text = BLANKS.sub(b"", text)
    if b"+" not in text and b"/" not in text:
        text = text.translate(bytes.maketrans(b"-_", b"+/"))
    run = RUN.match(text)
    end = run.end() if run else 0
    if not CLOSING.match(text, end):
        return None
    try:
        # a letter alone at the end says nothing
        coded = text[: end - (end % 4 == 1)]
        picture = base64.b64decode(coded + b"=" * (-len(coded) % 4), validate=True)
    except binascii.Error:
        return None
    return picture if PICTURE.match(picture) else None
