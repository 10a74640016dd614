"""Frames over the wire: identity in the picture, hostile bytes, pictures of every kind and turn."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import hostile
import numpy as np
import pytest
from hostile import encoded, noise_picture, segment, with_segment
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from posture.wire import frame
from posture.wire.frame import Identity, Limits, UndecodableError

JPEG = encoded(noise_picture(), "JPEG", quality=60)
PLAIN = Image.new("RGB", (60, 40), (200, 100, 50))
PNG, WEBP = encoded(noise_picture(), "PNG"), encoded(noise_picture(), "WEBP")
PICTURES = [pytest.param(JPEG, id="jpeg"), pytest.param(PNG, id="png"), pytest.param(WEBP, id="webp")]
NOON = datetime(2026, 11, 24, 12, 0, 0, 125_000, timezone.utc)

printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=200)
identities = st.builds(
    Identity,
    printable,
    st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(timezone.utc)),
    st.none() | st.integers(0, 2**53 - 1),
    st.none() | printable,
    st.just("comment"),
)


def decode(picture: bytes, max_side: int = 1280, **limits: int) -> np.ndarray:
    return frame.decode(picture, Limits(**limits), max_side)


def refusal(picture: bytes, **limits: int) -> str:
    with pytest.raises(UndecodableError) as refused:
        decode(picture, **limits)
    return refused.value.reason


# Raw or base64.


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda picture: picture, id="raw"),
        pytest.param(base64.b64encode, id="base64"),
        pytest.param(base64.encodebytes, id="base64-in-lines"),
        pytest.param(lambda picture: base64.b64encode(picture).rstrip(b"="), id="base64-unpadded"),
        pytest.param(lambda picture: b" \r\n" + base64.b64encode(picture) + b"\n", id="base64-with-blanks"),
    ],
)
def test_raw_and_base64_are_told_apart_and_give_the_same_picture(picture: bytes, wrap) -> None:
    assert frame.unwrap(wrap(picture)) == picture


def test_what_is_neither_a_picture_nor_its_base64_is_left_as_it_is() -> None:
    for payload in (b"", b"text", base64.b64encode(b"text"), b"/9j/*", b"/9j/\x00\xff"):
        assert frame.unwrap(payload) == payload


# Identity.


@given(identities)
@example(Identity("\U0001f642" * 200, NOON, 2**53 - 1, "\U0001f643" * 200, "comment"))
def test_an_identity_comes_back_from_the_picture_that_carries_it(identity: Identity) -> None:
    assert frame.identify(frame.stamp(JPEG, identity), {}) == identity


@given(identities)
def test_stamping_leaves_everything_else_in_the_file_byte_equal(identity: Identity) -> None:
    stamped = frame.stamp(JPEG, identity)
    assert stamped[:2] + stamped[len(stamped) - len(JPEG) + 2 :] == JPEG


@given(identities, identities)
def test_a_new_identity_replaces_the_old_one(first: Identity, second: Identity) -> None:
    assert frame.stamp(frame.stamp(JPEG, first), second) == frame.stamp(JPEG, second)


@given(identities, identities)
def test_a_digest_is_that_of_the_picture_whatever_its_stamp(first: Identity, second: Identity) -> None:
    stamped = frame.stamp(JPEG, first)
    assert (
        frame.content_digest(stamped)
        == frame.content_digest(frame.stamp(stamped, second))
        == hashlib.sha256(JPEG).hexdigest()
    )
    assert frame.content_digest(stamped + b"x") != frame.content_digest(stamped)


def test_of_several_comments_of_ours_the_new_one_alone_is_left() -> None:
    twice = with_segment(with_segment(JPEG, 0xFE, b'{"id": "one"}'), 0xFE, b'{"id": "two"}')
    assert frame.stamp(twice, Identity("three")) == frame.stamp(JPEG, Identity("three"))


def test_a_foreign_comment_stays_beside_ours() -> None:
    foreign = with_segment(JPEG, 0xFE, b"CREATOR: some camera")
    stamped = frame.stamp(foreign, Identity("one"))
    assert b"CREATOR: some camera" in stamped
    assert frame.identify(stamped, {}).frame_id == "one"
    assert frame.identify(foreign, {}).source == "hash"


def test_a_stamped_picture_shows_the_same_pixels() -> None:
    assert np.array_equal(decode(JPEG), decode(frame.stamp(JPEG, Identity("one", NOON, 7, "boot"))))


@pytest.mark.parametrize("picture", [b"", b"\xff\xd8", PNG], ids=["empty", "two-bytes", "png"])
def test_only_a_jpeg_can_be_stamped(picture: bytes) -> None:
    with pytest.raises(UndecodableError, match="not_a_jpeg"):
        frame.stamp(picture, Identity("one"))


def test_the_comment_counts_before_properties_and_properties_before_the_hash() -> None:
    properties = {"id": "by-property", "seq": "12", "captured_at": "2026-11-24T12:00:00.125Z", "boot_id": "b"}
    stamped = frame.stamp(JPEG, Identity("by-comment"))
    assert frame.identify(stamped, properties).frame_id == "by-comment"
    assert frame.identify(JPEG, properties) == Identity("by-property", NOON, 12, "b", "properties")
    assert frame.identify(PNG, properties).source == "properties"
    assert frame.identify(JPEG, {}) == Identity(hashlib.sha256(JPEG).hexdigest())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"captured_at": "2026-11-24T14:00:00.125+02:00"}, {"captured_at": NOON}, id="zone-to-utc"),
        pytest.param({"captured_at": "2026-11-24T12:00:00.125"}, {"captured_at": NOON}, id="naive-is-utc"),
        pytest.param({"captured_at": "2026-11-24T12:00:00.125Z"}, {"captured_at": NOON}, id="Z"),
        pytest.param({"captured_at": "0001-01-01T00:00:00+23:59"}, {"captured_at": None}, id="before-all-time"),
        pytest.param({"captured_at": "9999-12-31T23:59:59.999999Z"}, {"captured_at": None}, id="last-of-all-time"),
        pytest.param({"captured_at": "0001-01-01T00:00:00Z"}, {"captured_at": None}, id="first-of-all-time"),
        pytest.param({"captured_at": "1970-01-01T00:00:09Z"}, {"ignored": ()}, id="a-clock-that-begins-with-1970"),
        pytest.param({"captured_at": "yesterday"}, {"captured_at": None}, id="no-time"),
        pytest.param({"captured_at": 5}, {"captured_at": None}, id="time-of-wrong-type"),
        pytest.param({"seq": 2**53 - 1}, {"seq": 2**53 - 1}, id="largest-seq"),
        pytest.param({"seq": 2**53}, {"seq": None}, id="seq-too-large"),
        pytest.param({"seq": -1}, {"seq": None}, id="negative-seq"),
        pytest.param({"seq": True}, {"seq": None}, id="seq-of-wrong-type"),
        pytest.param({"seq": 1.0}, {"seq": None}, id="fractional-seq"),
        pytest.param({"seq": "007"}, {"seq": 7}, id="seq-as-text"),
        pytest.param({"boot_id": "a\nb"}, {"boot_id": None}, id="boot-with-control-character"),
        pytest.param({"boot_id": 3}, {"boot_id": None}, id="boot-of-wrong-type"),
    ],
)
def test_nonsense_in_one_field_costs_that_field_alone(fields: dict, expected: dict) -> None:
    comment = json.dumps({"id": "one", **fields}).encode()
    identity = frame.identify(with_segment(JPEG, 0xFE, comment), {})
    assert identity.frame_id == "one"
    for name, value in expected.items():
        assert getattr(identity, name) == value
        assert (name in identity.ignored) == (value is None)


@pytest.mark.parametrize(
    "frame_id",
    ["", "x" * 201, "a\x00b", "a\nb", "\u202egpj.exe", "\ud800", 7, None, ["a"]],
    ids=["empty", "too-long", "nul", "newline", "right-to-left", "surrogate", "number", "null", "list"],
)
def test_an_id_that_is_none_falls_to_the_next_source(frame_id: object) -> None:
    picture = with_segment(JPEG, 0xFE, json.dumps({"id": frame_id}).encode())
    assert frame.identify(picture, {"id": "by-property"}).source == "properties"
    assert frame.identify(picture, {}).frame_id == hashlib.sha256(picture).hexdigest()


# File names.


@given(st.text(max_size=300))
def test_an_id_never_leaves_its_folder(frame_id: str) -> None:
    name = frame.safe_name(frame_id)
    assert 0 < len(name) <= 100
    assert name.isascii()
    assert not set(name) & set('/\\\0:*?"<>| \n')
    assert not name.startswith(".")


@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=8, unique=True))
def test_two_ids_never_share_a_file(ids: list[str]) -> None:
    ids += [frame.safe_name(frame_id) for frame_id in ids]  # an id may look like another's name
    assert len({frame.safe_name(frame_id) for frame_id in ids}) == len(set(ids))


def test_an_id_made_to_look_like_another_ids_file_gets_one_of_its_own() -> None:
    taken = frame.safe_name("../../etc/passwd")
    assert frame.safe_name(taken) != taken


@pytest.mark.parametrize("frame_id", ["pi1-5f3a90c1d2e4-17", "a" * 64, "A.b_c-9"])
def test_a_harmless_id_is_its_own_name(frame_id: str) -> None:
    assert frame.safe_name(frame_id) == frame_id


# Pictures of every kind.


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(encoded(PLAIN, "JPEG", quality=95), id="jpeg"),
        pytest.param(encoded(PLAIN, "JPEG", progressive=True), id="progressive"),
        pytest.param(encoded(PLAIN.convert("CMYK"), "JPEG", quality=95), id="cmyk"),
        pytest.param(encoded(PLAIN, "PNG"), id="png"),
        pytest.param(encoded(Image.new("RGBA", (60, 40), (200, 100, 50, 255)), "PNG"), id="png-alpha"),
        pytest.param(encoded(PLAIN.quantize(2), "PNG"), id="png-palette"),
        pytest.param(encoded(PLAIN, "WEBP"), id="webp"),
        pytest.param(encoded(PLAIN, "WEBP", lossless=True), id="webp-lossless"),
        pytest.param(encoded(Image.new("RGBA", (60, 40), (200, 100, 50, 255)), "WEBP"), id="webp-alpha"),
    ],
)
def test_each_kind_of_picture_becomes_bgr_in_its_colours(picture: bytes) -> None:
    pixels = decode(picture)
    assert (pixels.shape, pixels.dtype) == ((40, 60, 3), np.uint8)
    assert np.abs(pixels.astype(int) - (50, 100, 200)).max() <= 6


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(encoded(Image.new("L", (60, 40), 156), "JPEG", quality=95), id="grey-jpeg"),
        pytest.param(encoded(Image.new("L", (60, 40), 156), "PNG"), id="grey-png"),
        pytest.param(encoded(Image.new("LA", (60, 40), (156, 255)), "PNG"), id="grey-alpha"),
        pytest.param(encoded(Image.fromarray(np.full((40, 60), 156 * 257, np.uint16)), "PNG"), id="grey-16-bit"),
    ],
)
def test_grey_becomes_three_equal_channels(picture: bytes) -> None:
    pixels = decode(picture)
    assert (pixels.shape, pixels.dtype) == ((40, 60, 3), np.uint8)
    assert np.abs(pixels.astype(int) - 156).max() <= 1


def forget_peak() -> None:
    """Make the kernel count this process's peak memory from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def corner_of(pixels: np.ndarray) -> str:
    """Where the bright quarter is."""
    height, width = pixels.shape[:2]
    rows, columns = np.nonzero(pixels[:, :, 2] > 128)
    return ("top" if rows.mean() < height / 2 else "bottom") + ("-left" if columns.mean() < width / 2 else "-right")


@pytest.mark.parametrize("max_side", [400, 100], ids=["full-scale", "reduced-scale"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "corner", "upright"),
    [
        (1, "top-left", True), (2, "top-right", True), (3, "bottom-right", True), (4, "bottom-left", True),
        (5, "top-left", False), (6, "top-right", False), (7, "bottom-right", False), (8, "bottom-left", False),
    ],
)  # fmt: skip
def test_exif_orientation_is_honoured_at_every_scale(
    orientation: int, corner: str, upright: bool, kind: str, max_side: int
) -> None:
    pixels = np.zeros((200, 400, 3), np.uint8)
    pixels[:100, :200, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = encoded(Image.fromarray(pixels), kind, exif=exif)
    shown = decode(picture, max_side)
    width, height = (max_side, max_side // 2) if upright else (max_side // 2, max_side)
    assert shown.shape == (height, width, 3)
    assert corner_of(shown) == corner


@given(st.integers(1, 700), st.integers(1, 700), st.integers(16, 400))
@settings(max_examples=40, deadline=None)
def test_the_longer_side_is_at_most_what_is_asked_for(width: int, height: int, side: int) -> None:
    shown = decode(encoded(Image.new("RGB", (width, height)), "JPEG"), side)
    assert max(shown.shape[:2]) == min(side, max(width, height))
    assert min(shown.shape[:2]) >= 1


def test_a_large_jpeg_is_decoded_at_reduced_scale_and_looks_the_same() -> None:
    rows, columns = np.mgrid[0:3000, 0:4000]
    picture = np.stack([rows / 12, columns / 16, (rows + columns) / 28], axis=2).astype(np.uint8)
    jpeg = encoded(Image.fromarray(picture), "JPEG", quality=95)
    forget_peak()
    before = peak_bytes()
    shown = decode(jpeg, 640)
    assert peak_bytes() - before < 3000 * 4000 * 3 / 2, "less than half of what the whole picture takes"
    expected = cv2.resize(picture[:, :, ::-1], (640, 480), interpolation=cv2.INTER_AREA)
    assert shown.shape == (480, 640, 3)
    assert np.abs(shown.astype(int) - expected).mean() < 2


# What is refused, and why.


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"hello", "not_a_picture", id="text"),
        pytest.param(b"GIF89a" + bytes(20), "not_a_picture", id="gif"),
        pytest.param(JPEG[:-2], "truncated", id="jpeg-without-end"),
        pytest.param(JPEG[: len(JPEG) // 2], "truncated", id="half-a-jpeg"),
        pytest.param(JPEG[:30], "truncated", id="jpeg-head"),
        pytest.param(with_segment(JPEG[:-40], 0xE1, encoded(noise_picture(), "JPEG")), "truncated", id="thumbnail"),
        pytest.param(PNG[:20], "truncated", id="png-head"),
        pytest.param(PNG[: len(PNG) // 2], "truncated", id="half-a-png"),
        pytest.param(WEBP[:20], "truncated", id="webp-head"),
        pytest.param(WEBP[: len(WEBP) // 2], "truncated", id="half-a-webp"),
        pytest.param(hostile.png_declaring(0, 10), "zero_area", id="png-without-width"),
        pytest.param(hostile.jpeg_declaring(JPEG, 10, 0), "zero_area", id="jpeg-without-height"),
        pytest.param(hostile.png_declaring(100_000, 100_000), "too_many_pixels", id="png-bomb"),
        pytest.param(hostile.jpeg_declaring(JPEG, 65_000, 65_000), "too_many_pixels", id="jpeg-bomb"),
        pytest.param(hostile.KINDS["webp_bomb_header"](random.Random(1)), "too_many_pixels", id="webp-bomb"),
        pytest.param(hostile.with_scans(64, 64, 200), "too_many_scans", id="scans"),
        pytest.param(hostile.png_declaring(50, 50), "undecodable", id="png-without-pixels"),
    ],
)
def test_a_refusal_names_its_reason(picture: bytes, reason: str) -> None:
    assert refusal(picture) == reason


def test_limits_count_bytes_and_declared_pixels() -> None:
    assert refusal(JPEG, max_bytes=len(JPEG) - 1) == "too_many_bytes"
    assert refusal(JPEG, max_pixels=160 * 120 - 1) == "too_many_pixels"
    assert decode(JPEG, max_bytes=len(JPEG), max_pixels=160 * 120).shape == (120, 160, 3)


@pytest.mark.parametrize("marker", [0x01, 0xD0, 0xD7], ids=["tem", "rst0", "rst7"])
def test_a_large_picture_cannot_hide_behind_a_small_ones_header(marker: int) -> None:
    """Decoders step over these markers; a reader that takes them for segments sees the wrong size."""
    small = encoded(noise_picture(1, 8, 8), "JPEG")
    hidden = JPEG[:2] + segment(marker, JPEG[2:]) + small[2:]
    assert cv2.imdecode(np.frombuffer(hidden, np.uint8), cv2.IMREAD_COLOR).shape == (120, 160, 3)
    with pytest.raises(UndecodableError):
        decode(hidden, max_pixels=100)


@pytest.mark.parametrize(
    "garbage", [bytes(100_000), b"\xff" * 9, b"\xff\xda" * 9000], ids=["zeros", "fill", "what-looks-like-scans"]
)
def test_data_after_a_jpegs_end_is_accepted(garbage: bytes) -> None:
    assert np.array_equal(decode(JPEG + garbage), decode(JPEG))


def test_the_header_is_checked_before_anything_is_decoded() -> None:
    """Nothing near the declared 30 GB is ever asked for, nor the 90 MB of one just over the limit."""
    forget_peak()
    before = peak_bytes()
    for size in (100_000, 5478):
        assert refusal(hostile.png_declaring(size, size, bytes(size)), max_pixels=30_000_000) == "too_many_pixels"
    assert peak_bytes() - before < 5_000_000


def test_two_thousand_hostile_payloads_raise_nothing_but_undecodable_in_bounded_memory() -> None:
    """Peak memory grows by less than one picture of the largest size that the limits let pass (150 MB)."""
    payloads = hostile.hostile_payloads(seed=20261124, count=2000)
    forget_peak()
    before = peak_bytes()
    outcomes: Counter[str] = Counter()
    for payload in payloads:
        picture = frame.unwrap(payload)
        identity = frame.identify(picture, {})
        assert 0 < len(identity.frame_id) <= 200
        assert identity.frame_id.isprintable()
        assert frame.safe_name(identity.frame_id)
        try:
            pixels = frame.decode(picture, Limits(), 1280)
        except UndecodableError as refused:
            outcomes[refused.reason] += 1
        else:
            outcomes["decoded"] += 1
            assert (pixels.dtype, pixels.shape[2]) == (np.uint8, 3)
            assert 0 < max(pixels.shape[:2]) <= 1280
    grown = peak_bytes() - before
    assert outcomes.total() == 2000
    assert {
        "decoded", "empty", "not_a_picture", "truncated", "too_many_pixels", "too_many_scans", "zero_area",
    } <= set(outcomes), outcomes  # fmt: skip
    assert grown < 150_000_000, f"peak memory grew by {grown / 1e6:.0f} MB"


def test_the_generator_makes_every_kind_and_repeats_itself() -> None:
    payloads = hostile.hostile_payloads(3, 2 * len(hostile.KINDS))
    assert payloads == hostile.hostile_payloads(3, 2 * len(hostile.KINDS))
    distinct = set(payloads)
    assert len(distinct) == len(payloads) - 1, "only the empty one comes twice"


@given(st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"/9j/"]))
@settings(deadline=timedelta(seconds=2))
def test_no_bytes_raise_anything_but_undecodable(tail: bytes, head: bytes) -> None:
    picture = frame.unwrap(head + tail)
    frame.identify(picture, {"id": tail.decode("latin-1"), "seq": tail[:20].decode("latin-1")})
    with contextlib.suppress(UndecodableError):
        frame.decode(picture, Limits(max_pixels=10_000), 100)
