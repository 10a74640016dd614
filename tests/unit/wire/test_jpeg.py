"""Pictures of which only a part is there are refused, and those that cheap cameras pad are taken."""

from __future__ import annotations

import struct
import time
from collections import Counter

import numpy as np
import pytest
from hostile import EOI, encoded, noise_picture, with_scans
from PIL import Image

from posture.wire import decoding, frame
from posture.wire.errors import UndecodableError

BASELINE = encoded(noise_picture(), "JPEG", quality=80)
PROGRESSIVE = encoded(noise_picture(), "JPEG", quality=80, progressive=True)
RESTARTS = encoded(noise_picture(), "JPEG", quality=80, restart_marker_rows=1)
KINDS = [
    pytest.param(BASELINE, id="baseline"),
    pytest.param(PROGRESSIVE, id="progressive"),
    pytest.param(RESTARTS, id="restarts"),
]


def refusal(picture: bytes) -> str:
    with pytest.raises(UndecodableError) as refused:
        decoding.decode(picture, frame.Limits(), 1280)
    return refused.value.reason


@pytest.mark.parametrize("jpeg", KINDS)
@pytest.mark.parametrize("share", [0.4, 0.7, 0.97])
def test_a_scan_that_is_cut_is_refused_though_an_end_marker_stands_behind_it(jpeg: bytes, share: float) -> None:
    assert refusal(jpeg[: int(len(jpeg) * share)] + EOI) == "truncated"


def test_a_progressive_picture_that_ends_between_two_scans_is_refused() -> None:
    scans = [at for at in range(len(PROGRESSIVE)) if PROGRESSIVE[at : at + 2] == b"\xff\xda"]
    for at in scans[1:]:
        cut = PROGRESSIVE[:at] + EOI
        assert refusal(cut) == "truncated"


def test_most_pictures_that_lost_a_piece_on_their_way_are_refused() -> None:
    reasons: Counter[str] = Counter()
    for at in range(1000, len(PROGRESSIVE) - 400, 400):
        try:
            decoding.decode(PROGRESSIVE[:at] + PROGRESSIVE[at + 100 :], frame.Limits(), 1280)
            reasons["decoded"] += 1
        except UndecodableError as refused:
            reasons[refused.reason] += 1
    assert reasons["decoded"] <= 0.1 * reasons.total(), reasons
    assert {"damaged", "truncated"} <= set(reasons)


@pytest.mark.parametrize("jpeg", [KINDS[0], KINDS[2]])
def test_a_picture_whose_scan_is_padded_as_webcams_do_is_whole(jpeg: bytes) -> None:
    padded = jpeg[:-2] + bytes(6) + EOI
    whole = decoding.decode(jpeg, frame.Limits(), 1280)
    assert np.array_equal(decoding.decode(padded, frame.Limits(), 1280), whole)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_png_or_webp_whose_lengths_were_made_to_fit_what_is_left_of_it_is_refused(kind: str) -> None:
    picture = encoded(noise_picture(), kind)
    if kind == "WEBP":
        left = picture[: len(picture) // 2 & ~1]
        size = struct.pack("<I", len(left) - 8), struct.pack("<I", len(left) - 20)
        cut = left[:4] + size[0] + left[8:16] + size[1] + left[20:]
    else:
        cut = picture[: len(picture) // 2] + picture[-12:]
    assert refusal(cut) == "undecodable"


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        pytest.param(with_scans(3000, 3000, 80), "too_many_scans", id="scans"),
        pytest.param(encoded(Image.new("RGB", (6000, 6000)), "PNG"), "too_many_pixels", id="png"),
        pytest.param(encoded(Image.new("RGB", (6000, 6000)), "WEBP"), "too_many_pixels", id="webp"),
    ],
)
def test_a_picture_that_would_keep_the_processor_busy_is_refused_by_its_header(picture: bytes, reason: str) -> None:
    def takes_s() -> float:
        began = time.process_time()
        assert refusal(picture) == reason
        return time.process_time() - began

    # Python may tidy up its memory in one of them
    assert min(takes_s() for _ in range(3)) < 0.1


def test_a_small_picture_may_have_more_scans_than_a_large_one() -> None:
    assert decoding.decode(with_scans(400, 300, 60), frame.Limits(), 1280).shape == (300, 400, 3)
