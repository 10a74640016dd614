"""Pictures as JPEGs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from farm import noise_jpeg

from posture.camera.pictures import as_jpeg, pixels_of
from posture.wire.frame import UndecodableError

RED = np.full((40, 60, 3), (0, 0, 255), np.uint8)


def test_a_jpeg_stays_as_it_is_to_the_byte() -> None:
    jpeg = noise_jpeg(1, 32, 24)
    assert as_jpeg(jpeg) is jpeg


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_other_pictures_and_pixels_become_jpegs_of_the_same_colours(suffix: str) -> None:
    for picture in (RED, cv2.imencode(suffix, RED)[1].tobytes()):
        assert np.abs(pixels_of(as_jpeg(picture)).astype(int) - RED).max() < 6


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="a page"),
        pytest.param(cv2.imencode(".png", RED)[1].tobytes()[:60], id="half a PNG"),
        pytest.param(b"\xff\xd8\xff" + bytes(20_000_000), id="too many bytes"),
        pytest.param(np.zeros((0, 0, 3), np.uint8), id="no pixels"),
        pytest.param(np.zeros((1, 70_000, 3), np.uint8), id="wider than a JPEG may be"),
    ],
)
def test_what_is_no_picture_that_an_analyzer_takes_is_undecodable(picture: bytes | np.ndarray) -> None:
    with pytest.raises(UndecodableError):
        as_jpeg(picture)
