"""Pixels from pictures, and JPEGs from pixels."""

from __future__ import annotations

import numpy as np
import pytest

from posture.camera import pixels
from posture.wire.frame import UndecodableError

RED = np.full((40, 60, 3), (0, 0, 255), np.uint8)


def test_pixels_become_a_jpeg_of_the_same_colours() -> None:
    assert np.abs(pixels.decoded(pixels.encoded(RED)).astype(int) - RED).max() < 6


@pytest.mark.parametrize("shape", [(0, 0, 3), (1, 70_000, 3)], ids=["no pixels", "wider than a JPEG may be"])
def test_pixels_that_no_jpeg_can_hold_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UndecodableError):
        pixels.encoded(np.zeros(shape, np.uint8))
