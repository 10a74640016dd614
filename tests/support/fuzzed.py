"""MQTT messages such as no program of ours sends, repeatable by their seed: topics, properties, payloads."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hostile import JPEG_BYTES, KINDS, WEBP_BYTES, encoded, noise_picture, with_segment
from raw_mqtt import integer, packet, text

IMAGES = b"images/pi1"
READ_BY_CAMERAS = (b"status/pi1", b"committed/pi1")
SLOW_KINDS = {"a_million_segments", "jpeg_of_many_scans", "comment_longer_than_the_file", "jpeg_behind_a_small_one"}
"""Of hostile payloads; they are tried elsewhere, and would take most of the time here."""
SMALL_JPEG = encoded(noise_picture(3, 24, 16), "JPEG")
STRANGE = (
    "", "\ufeff", "x\ufeff", "\u200b", "\ufffd", "\u202e", "\U0001f4f7", "e\u0301", "0", "-1", "true",
    "9" * 400, str(2**53), str(2**63), "1e400", "NaN", "[" * 300, "../../x", "%s%n", "'; --", "a" * 5000,
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999Z", "2026-11-26T12:00:00Z",
)  # fmt: skip
NO_TEXT = (b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb", b"\xef\xbf\xbe",
           b"\x7f", b"\xc2\x85", b"\xf4\x8f\xbf\xbf")  # fmt: skip
"""Not UTF-8, or none that MQTT allows."""
FIELDS = ("id", "seq", "captured_at", "boot_id", "ids", "sha256", "state", "instance", "started", "image", "data")


@dataclass(frozen=True)
class Fuzzed:
    """One PUBLISH.

    Attributes:
        data: the packet.
        qos: 0 or 1; a broker acknowledges the latter.
        is_frame: a broker that takes it must deliver it to the stream pi1.
    """

    data: bytes
    qos: int
    is_frame: bool


def messages(seed: int, count: int) -> Iterator[Fuzzed]:
    """Return ``count`` messages of MQTT 5, with packet ids that go round from 1 to 60,000."""
    chance = random.Random(seed)
    for number in range(count):
        yield _message(chance, 1 + number % 60_000)


def _message(chance: random.Random, packet_id: int) -> Fuzzed:
    topic = _topic(chance)
    properties, expires = _properties(chance)
    qos = 0 if chance.random() < 0.05 else 1
    retain = topic != IMAGES and chance.random() < 0.3
    length = integer(len(properties))
    if chance.random() < 0.005:
        length = integer(chance.randrange(1 << 14))  # an untrue one
    body = text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + length + properties + _payload(chance)
    header = 0x30 | qos << 1 | retain
    return Fuzzed(packet(header, body), qos, is_frame=topic == IMAGES and qos == 1 and not expires)


def _topic(chance: random.Random) -> bytes:
    drawn = chance.random()
    if drawn < 0.7:
        return IMAGES
    if drawn < 0.95:
        return chance.choice(READ_BY_CAMERAS)
    return chance.choice((b"images/pi1/", b"IMAGES/PI1", b"images/", b"$SYS/x", b"images/+", b"")) + _text(chance)


def _text(chance: random.Random) -> bytes:
    """Text, mostly; what a broker must refuse, now and then, for then it ends the sender's connection."""
    if chance.random() < 0.002:
        return chance.choice(NO_TEXT)
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(12)).hex().encode()
    return chance.choice(STRANGE).encode()


def _properties(chance: random.Random) -> tuple[bytes, bool]:
    """Return properties, and whether the message expires."""
    makers: dict[int, Callable[[], bytes]] = {
        0x01: lambda: bytes([chance.randrange(2)]),  # payload format
        0x02: lambda: chance.randrange(1 << chance.randrange(1, 32)).to_bytes(4, "big"),  # expiry
        0x03: lambda: text(_text(chance)),  # content type
        0x08: lambda: text(b"answers/" + chance.randbytes(4).hex().encode()),  # response topic
        0x09: lambda: text(chance.randbytes(chance.randrange(40))),  # correlation data
        0x26: lambda: text(_name(chance)) + text(_text(chance)),  # user property
    }
    kinds = chance.choices(list(makers), weights=[1, 1, 1, 1, 1, 10], k=chance.choice((0, 0, 1, 2, 5)))
    if chance.random() < 0.995:  # of all but the last kind there may be one
        kinds = [kind for at, kind in enumerate(kinds) if kind == 0x26 or kind not in kinds[:at]]
    if chance.random() < 0.003:
        return bytes([chance.randrange(256)]) + chance.randbytes(6), True
    return b"".join(bytes([kind]) + makers[kind]() for kind in kinds), 0x02 in kinds


def _name(chance: random.Random) -> bytes:
    return chance.choice(FIELDS).encode() if chance.random() < 0.5 else _text(chance)


def _payload(chance: random.Random) -> bytes:
    kind = chance.choices((_noise, _json, _wrapped, _broken_jpeg, _strange_jpeg, _hostile), (30, 30, 15, 20, 2, 3))[
        0
    ]
    return kind(chance)


def _noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(200))


def _value(chance: random.Random, depth: int = 0) -> object:
    drawn = chance.randrange(9 if depth < 3 else 6)
    if drawn < 3:
        return chance.choice(STRANGE)
    if drawn == 3:
        return chance.choice((0, -1, 2**53, 2**64, 1.5, float("inf"), float("nan"), True, None))
    if drawn < 6:
        return base64.b64encode(SMALL_JPEG[: chance.randrange(len(SMALL_JPEG))]).decode()
    if drawn == 6:
        return [_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(FIELDS): _value(chance, depth + 1) for _ in range(chance.randrange(5))}


def _json(chance: random.Random) -> bytes:
    fields = {name: _value(chance) for name in chance.sample(FIELDS, chance.randrange(1, 6))}
    return _damaged(chance, json.dumps(fields).encode())


def _wrapped(chance: random.Random) -> bytes:
    whole = base64.b64encode(WEBP_BYTES[: chance.randrange(12, 400)])
    before = chance.choice(
        (b"", b"data:image/jpeg;base64,", b'"', b"\xef\xbb\xbf", b"--x\r\nContent-Type: a\r\n\r\n")
    )
    return before + _damaged(chance, whole) + chance.choice((b"", b"\0", b'"', b"\r\n--x--"))


def _damaged(chance: random.Random, data: bytes) -> bytes:
    if chance.random() < 0.5 or not data:
        return data
    damaged = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    return bytes(damaged[: chance.randrange(len(damaged) + 1)])


def _broken_jpeg(chance: random.Random) -> bytes:
    return _with_comment(chance, JPEG_BYTES)[: chance.randrange(2, 400)]


def _strange_jpeg(chance: random.Random) -> bytes:
    """A whole picture that says strange things about itself."""
    return _with_comment(chance, SMALL_JPEG)


def _with_comment(chance: random.Random, jpeg: bytes) -> bytes:
    fields = {name: _value(chance) for name in FIELDS[:4]}
    return with_segment(jpeg, 0xFE, json.dumps(fields).encode()[:60_000])


def _hostile(chance: random.Random) -> bytes:
    return KINDS[chance.choice(sorted(KINDS.keys() - SLOW_KINDS))](chance)
