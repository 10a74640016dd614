"""Frames over the wire: what goes in comes out, and strangers' bytes do no harm."""

from __future__ import annotations

import base64
import contextlib
import io
from datetime import datetime, timedelta, timezone

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from posture import frame

JPEG = cv2.imencode(".jpg", np.zeros((24, 32, 3), np.uint8))[1].tobytes()
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=100)
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc))


@given(PRINTABLE, INSTANTS, st.integers(0, 2**53 - 1), PRINTABLE)
def test_what_is_stamped_is_identified_and_the_scan_is_untouched(
    frame_id: str, captured_at: datetime, seq: int, boot_id: str
) -> None:
    identity = frame.Identity(frame_id, captured_at, seq, boot_id, "comment")
    stamped = frame.stamp(JPEG, identity)
    assert frame.identify(stamped, {"id": "another"}) == identity
    assert stamped.endswith(JPEG[2:])
    again = frame.stamp(stamped, identity)
    assert again == stamped


def test_without_a_comment_the_user_properties_say_who_it_is_and_else_the_bytes_do() -> None:
    assert frame.identify(JPEG, {"id": "x", "seq": "3"}).seq == 3
    assert frame.identify(JPEG, {"seq": "3"}).source == "hash"
    assert frame.identify(JPEG, {}).frame_id != frame.identify(JPEG + b"\0", {}).frame_id


def test_a_time_of_another_zone_becomes_utc() -> None:
    identity = frame.identify(JPEG, {"id": "x", "captured_at": "2026-01-01T02:00:00+02:00"})
    assert identity.captured_at == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert identity.captured_at is not None
    assert identity.captured_at.utcoffset() == timedelta(0)


@settings(max_examples=500, deadline=None)
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF....WEBPVP8X", b"/9j/"]),
)
def test_any_bytes_are_identified_and_decoded_or_refused(tail: bytes, head: bytes) -> None:
    picture = frame.unwrap(head + tail)
    assert frame.identify(picture, {}).frame_id
    # any exception but this one would fail the test
    with contextlib.suppress(frame.Undecodable):
        assert frame.decode(picture, frame.Limits(), 960).ndim == 3


@given(st.text(max_size=300), st.text(max_size=300))
def test_a_safe_name_stays_in_its_folder_and_tells_ids_apart(one: str, other: str) -> None:
    name = frame.safe_name(one)
    assert 0 < len(name) <= 100
    assert "/" not in name
    assert not name.startswith("..")
    assert (name == frame.safe_name(other)) == (one == other)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("scale", [1, 8], ids=["full-scale", "reduced-scale"])
def test_every_exif_orientation_is_honoured(orientation: int, scale: int) -> None:
    upright = Image.new("RGB", (64 * scale, 32 * scale), "black")
    upright.paste("white", (0, 0, 16 * scale, 8 * scale))  # the upper left corner
    turns = {
        1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4],
    }  # fmt: skip
    stored = upright
    for turn in turns[orientation]:
        stored = stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored.save(out, "JPEG", exif=exif)
    decoded = frame.decode(out.getvalue(), frame.Limits(), 64)
    assert decoded.shape == (32, 64, 3)
    assert decoded[2, 2].min() > 200
    assert decoded[-3, -3].max() < 50


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (b"", "empty"),
        (JPEG[:-40], "truncated"),
        (b"hello", "not_a_picture"),
        (
            b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0",
            "too_many_pixels",
        ),
        (b"x" * 101, "too_many_bytes"),
    ],
    ids=["empty", "truncated", "text", "bomb", "large"],
)
def test_a_frame_that_is_refused_says_why(picture: bytes, reason: str) -> None:
    limits = frame.Limits(max_bytes=100) if reason == "too_many_bytes" else frame.Limits()
    with pytest.raises(frame.Undecodable) as refused:
        frame.decode(picture, limits, 960)
    assert refused.value.reason == reason


def test_base64_with_line_breaks_and_without_padding_is_the_same_picture() -> None:
    text = base64.encodebytes(JPEG).rstrip(b"=\n")
    assert frame.unwrap(text) == JPEG
    assert frame.unwrap(JPEG) == JPEG
