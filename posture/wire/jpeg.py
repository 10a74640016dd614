"""JPEG files of strangers: their segments, their turn, and whether all of their scans are there.

The bytes are untrusted: the only exception that leaves is ``UndecodableError``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from posture.wire.errors import UndecodableError

START = b"\xff\xd8\xff"
APP1, COM, SOS, EOI = 0xE1, 0xFE, 0xDA, 0xD9
STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length: decoders step over them."""
NOT_BEFORE_SCAN = frozenset({0x00, 0xD8, EOI})
"""A stuffed zero, a second start, an end: a file that has one of these before its scan is broken."""
MARKER_IN_SCAN = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""What ends a scan's data: no stuffed zero, no restart, no fill byte."""
SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers: they carry the picture's size."""
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
ALL_COEFFICIENTS = (1 << 64) - 1
MAX_SEGMENTS, MAX_SCANS = 1000, 100
"""A progressive JPEG has about ten scans; the thousands that fit in 20 MB would keep the decoder busy for hours."""
ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held."""


@dataclass(frozen=True)
class Header:
    """What a file says of its picture before the first scan."""

    width: int
    height: int
    components: tuple[int, ...]
    progressive: bool


def segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
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


def header(jpeg: bytes) -> Header:
    """Return what the file declares.

    Raises:
        UndecodableError: it ends before it does.
    """
    for marker, start, end in segments(jpeg):
        if marker in SIZE_MARKERS and end - start >= 6:
            height, width, count = struct.unpack(">HHB", jpeg[start + 1 : start + 6])
            return Header(width, height, tuple(jpeg[start + 6 : end : 3][:count]), marker in PROGRESSIVE)
    raise UndecodableError("truncated")


def first_scan(jpeg: bytes) -> int | None:
    """Return where the first scan begins, with its marker; None: there is none."""
    return next((start - 4 for marker, start, _end in segments(jpeg) if marker == SOS), None)


def check_scans(jpeg: bytes, of: Header, most_scans: int) -> None:
    """See that the picture is whole: all its scans are there, the last one ends with the end marker.

    A thumbnail's end marker, before the scan, does not count. Cameras may append data after the end.

    Raises:
        UndecodableError: something is missing, or there are more than ``most_scans``.
    """
    at = first_scan(jpeg)
    if at is None:
        raise UndecodableError("truncated")
    missing = dict.fromkeys(of.components, ALL_COEFFICIENTS if of.progressive else 1)
    scans = 0
    for _ in range(MAX_SEGMENTS):
        found = MARKER_IN_SCAN.search(jpeg, at)
        if found is None:
            break
        marker, at = found[1][0], found.end()
        if marker == EOI:
            if any(missing.values()):
                break
            return
        if marker in STANDALONE:
            continue
        length = int.from_bytes(jpeg[at : at + 2], "big")
        if marker == SOS:
            scans += 1
            if scans > min(most_scans, MAX_SCANS):
                raise UndecodableError("too_many_scans")
            _note_scan(jpeg[at + 2 : at + length], of.progressive, missing)
        at += length
    raise UndecodableError("truncated")


def _note_scan(scan: bytes, progressive: bool, missing: dict[int, int]) -> None:
    """Take from ``missing``, component -> bits of coefficients, those of which this scan brings the last bit."""
    count = scan[0] if scan else 0
    if len(scan) < 4 + 2 * count:
        return
    first, last, depth = scan[1 + 2 * count :][:3]
    brought = 1
    if progressive:
        brought = 0 if depth & 0x0F or last > 63 or first > last else (2 << last) - (1 << first)
    for component in scan[1 : 1 + 2 * count : 2]:
        if component in missing:
            missing[component] &= ~brought


def orientation(jpeg: bytes) -> int:
    """Return EXIF's orientation; 1, upright, where there is none."""
    for marker, start, end in segments(jpeg):
        if marker == APP1 and jpeg[start : start + 6] == b"Exif\0\0":
            return _orientation_in(jpeg[start + 6 : end])
    return 1


def _orientation_in(tiff: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, at)
        for number in range(entries):
            tag, _kind, _count, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * number)
            if tag == ORIENTATION:
                return int(value)
    except struct.error:  # it points beyond its end
        pass
    return 1
