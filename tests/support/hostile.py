"""Payloads that a stranger may send: each kind by name, repeatable by its seed."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file of that kind ("JPEG", "PNG", "WEBP")."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@cache
def noise_picture(seed: int = 0, width: int = 160, height: int = 120) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def segment(marker: int, data: bytes) -> bytes:
    """A JPEG segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    """The JPEG with a segment before all others."""
    return jpeg[:2] + segment(marker, data) + jpeg[2:]


def png_declaring(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG whose header promises a picture that is not there."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(body)
    chunks = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, data, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_declaring(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its header."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def hidden_behind_a_small_one(jpeg: bytes) -> bytes:
    """A large JPEG inside what looks like a segment of a small one, if one takes a restart marker for a segment."""
    small = encoded(noise_picture(1, 8, 8), "JPEG")
    return SOI + segment(0xD0, jpeg[2:][:65_533]) + small[2:]


def with_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: few bytes, much work."""
    jpeg = encoded(Image.new("RGB", (width, height), (90, 60, 30)), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * scans + EOI


def _rotated(chance: random.Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = chance.randrange(1, 9)
    return encoded(noise_picture(), "JPEG", exif=exif, comment=_label(chance))


def _label(chance: random.Random) -> str:
    """Makes a picture unlike all others, without another pixel."""
    return f"{chance.getrandbits(64):016x}"


def _damaged(chance: random.Random) -> bytes:
    damaged = bytearray(JPEG_BYTES)
    for _ in range(20):
        damaged[chance.randrange(3, len(damaged))] = chance.randrange(256)
    return bytes(damaged)


def _comment(chance: random.Random, text: str) -> bytes:
    return with_segment(JPEG_BYTES, 0xFE, text.replace("@", _label(chance)).encode())


JPEG_BYTES = encoded(noise_picture(), "JPEG", quality=60)
WEBP_BYTES = encoded(noise_picture(), "WEBP")

KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "empty": lambda _: b"",
    "truncated_jpeg": lambda chance: JPEG_BYTES[: chance.randrange(4, len(JPEG_BYTES) - 2)],
    "truncated_behind_a_thumbnail": lambda chance: with_segment(
        JPEG_BYTES[: chance.randrange(700, len(JPEG_BYTES) - 2)], 0xE1, encoded(noise_picture(2, 32, 24), "JPEG")
    ),
    "truncated_webp": lambda chance: WEBP_BYTES[: chance.randrange(13, len(WEBP_BYTES) - 1)],
    "png_bomb_header": lambda chance: png_declaring(100_000 + chance.randrange(1000), 100_000),
    "png_declaring_100_mb": lambda chance: png_declaring(5774 + chance.randrange(100), 5774, bytes(1000)),
    "png_of_the_largest_size": lambda chance: png_declaring(0xFFFFFFFF, 0xFFFFFFFF - chance.randrange(1000)),
    "png_without_header": lambda chance: b"\x89PNG\r\n\x1a\n" + chance.randbytes(60),
    "jpeg_bomb_header": lambda chance: jpeg_declaring(JPEG_BYTES, 65_535, 65_535 - chance.randrange(1000)),
    "jpeg_behind_a_small_one": lambda chance: hidden_behind_a_small_one(_comment(chance, "@")),
    "jpeg_of_many_scans": lambda chance: with_scans(64, 64, 200 + chance.randrange(100)),
    "webp_bomb_header": lambda chance: b"RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + bytes(4) + b"\xff" * 6
    + chance.randbytes(4),
    "text": lambda chance: f"not a picture {_label(chance)}".encode(),
    "json": lambda chance: f'{{"id": "{_label(chance)}"}}'.encode(),
    "base64_of_garbage": lambda chance: base64.b64encode(chance.randbytes(300)),
    "base64_head_of_garbage": lambda chance: b"/9j/" + base64.b64encode(chance.randbytes(300)),
    "base64_wrong_padding": lambda chance: base64.b64encode(JPEG_BYTES)[: -chance.randrange(1, 4000)],
    "base64_nested": lambda chance: base64.b64encode(base64.b64encode(_comment(chance, "@"))),
    "base64_with_strange_letters": lambda chance: b"/9j/" + chance.randbytes(200),
    "random_bytes": lambda chance: chance.randbytes(chance.randrange(1, 3000)),
    "random_after_a_jpeg_head": lambda chance: b"\xff\xd8\xff" + chance.randbytes(chance.randrange(2000)),
    "random_webp": lambda chance: b"RIFF\x10\x00\x00\x00WEBPVP8X" + chance.randbytes(chance.randrange(30)),
    "zero_area_png": lambda chance: png_declaring(0, chance.randrange(1 << 30)),
    "zero_area_jpeg": lambda chance: jpeg_declaring(JPEG_BYTES, chance.randrange(1, 9999), 0),
    "damaged_jpeg": _damaged,
    "cmyk": lambda chance: encoded(noise_picture().convert("CMYK"), "JPEG", comment=_label(chance)),
    "grey": lambda chance: encoded(noise_picture().convert("L"), "JPEG", comment=_label(chance)),
    "sixteen_bit": lambda chance: encoded(
        Image.fromarray(np.full((40, 50), chance.randrange(65_536), np.uint16)), "PNG"
    ),
    "one_pixel": lambda chance: encoded(Image.new("RGB", (1, 1), chance.randrange(1 << 24)), "PNG"),
    "exif_rotated": _rotated,
    "comment_of_nested_json": lambda chance: _comment(chance, "[" * 8000 + "@"),
    "comment_with_an_endless_number": lambda chance: _comment(chance, '{"id": "@", "seq": ' + "9" * 5000 + "}"),
    "comment_with_wrong_types": lambda chance: _comment(chance, '{"id": {"@": 1}, "seq": "x", "boot_id": []}'),
    "comment_with_a_path": lambda chance: _comment(chance, '{"id": "../../@\\u0000/x"}'),
    "comment_with_a_long_id": lambda chance: _comment(chance, '{"id": "' + "@" * 60 + '"}'),
    "comment_with_a_wrong_time": lambda chance: _comment(
        chance, '{"id": "@", "captured_at": "0001-01-01T00:00:00+23:59", "seq": -1}'
    ),
    "comment_of_full_length": lambda chance: _comment(chance, '{"id": "@' + "x" * 65_000 + '"}'),
    "comment_longer_than_the_file": lambda chance: SOI + b"\xff\xfe\xff\xff" + b"[" * 60_000 + chance.randbytes(8),
    "a_million_segments": lambda chance: SOI + segment(0xFE, b"") * 250_000 + chance.randbytes(8),
}  # fmt: skip


def hostile_payloads(seed: int, count: int) -> list[bytes]:
    """``count`` payloads, of every kind in turn; all unlike each other but those that are empty."""
    chance, kinds = random.Random(seed), list(KINDS.values())
    return [kinds[number % len(kinds)](chance) for number in range(count)]
