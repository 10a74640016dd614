"""Pictures as JPEGs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from farm import noise_jpeg

from posture.camera import pixels
from posture.camera.pictures import as_jpeg
from posture.wire.frame import UndecodableError

RED = np.full((40, 60, 3), (0, 0, 255), np.uint8)


def test_a_jpeg_stays_as_it_is_to_the_byte() -> None:
    jpeg = noise_jpeg(1, 32, 24)
    assert as_jpeg(jpeg) is jpeg


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_other_pictures_become_jpegs_of_the_same_colours(suffix: str) -> None:
    picture = cv2.imencode(suffix, RED)[1].tobytes()
    assert np.abs(pixels.decoded(as_jpeg(picture)).astype(int) - RED).max() < 6


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"<html>", "not_a_picture", id="a page"),
        pytest.param(cv2.imencode(".png", RED)[1].tobytes()[:60], "truncated", id="half a PNG"),
        pytest.param(b"RIFF\0\0\0\0WAVE", "not_a_picture", id="a sound"),
        pytest.param(b"\xff\xd8\xff" + bytes(20_000_000), "too_many_bytes", id="too many bytes"),
    ],
)
def test_what_is_no_picture_that_an_analyzer_takes_is_undecodable(picture: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        as_jpeg(picture)
