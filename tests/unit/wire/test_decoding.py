"""A frame's picture as pixels: pictures of every kind and turn, hostile bytes."""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from pathlib import Path

import cv2
import hostile
import numpy as np
import pytest
from hostile import encoded, noise_picture, segment, with_segment
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from processes import peak_kib

from posture.wire import decoding, frame
from posture.wire.frame import Limits, UndecodableError

JPEG = encoded(noise_picture(), "JPEG", quality=60)
PLAIN = Image.new("RGB", (60, 40), (200, 100, 50))
PNG, WEBP = encoded(noise_picture(), "PNG"), encoded(noise_picture(), "WEBP")


def decode(picture: bytes, max_side: int = 1280, **limits: int) -> np.ndarray:
    return decoding.decode(picture, Limits(**limits), max_side)


def refusal(picture: bytes, **limits: int) -> str:
    with pytest.raises(UndecodableError) as refused:
        decode(picture, **limits)
    return refused.value.reason


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
    return peak_kib(os.getpid()) * 1024


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
            pixels = decoding.decode(picture, Limits(), 1280)
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
def test_no_bytes_raise_anything_but_undecodable(tail: bytes, head: bytes) -> None:
    picture = frame.unwrap(head + tail)
    frame.identify(picture, {"id": tail.decode("latin-1"), "seq": tail[:20].decode("latin-1")})
    with contextlib.suppress(UndecodableError):
        decoding.decode(picture, Limits(max_pixels=10_000), 100)
