"""Whether the camera or the seat has been moved since a stream was calibrated from the front.

A head's height over the shoulders depends on where the camera stands. Slouching makes shoulders sink, and their
width change by up to a third; what goes beyond that, or makes the shoulders rise while the head sinks, is no
posture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posture.verdict.geometry import SHOULDERS

WIDTH_RATIO = 1.6
"""The shoulders may look wider or narrower than calibrated by this factor."""
ASIDE, SUNK, RISEN = 0.5, 0.5, 0.1
"""The shoulders may stand so far off their calibrated place, in calibrated shoulder widths."""
MOVED_S = 60.0
"""Off for so long, and somebody or something has been moved."""
LONGEST_STEP_S = 15.0
"""A frame speaks for no more time than this."""


@dataclass(frozen=True)
class Placement:
    """Where the shoulders are in the picture.

    Attributes:
        x: of the middle between them, as a share of the picture's width.
        y: likewise, of its height.
        width: the distance between them, as a share of the picture's width.
    """

    x: float
    y: float
    width: float


def placement(points: npt.NDArray[np.float64], width: int, height: int) -> Placement:
    """The placement of one pose.

    Args:
        points: shape (33, 2 or more), pixels.
        width: of the picture, in pixels.
        height: likewise.
    """
    left, right = points[SHOULDERS[0], :2], points[SHOULDERS[1], :2]
    x, y = ((left + right) / 2).tolist()
    return Placement(x / width, y / height, math.dist(left, right) / width)


class MovedSince:
    """Tells for one stream whether it is time to calibrate again.

    Args:
        calibrated: the placement then.
        roll: of the camera, in radians, clockwise.
    """

    def __init__(self, calibrated: Placement, roll: float = 0.0) -> None:
        self._calibrated = calibrated
        self._roll = roll
        self._off_s = 0.0
        self._last: float | None = None

    def update(self, now: Placement, aspect: float, head_sunk: bool, at: float) -> bool:
        """Take in one frame; True once the shoulders have been off their place for MOVED_S without a break.

        Args:
            now: the placement.
            aspect: the picture's height as a share of its width.
            head_sunk: the head stands lower over the shoulders than calibrated.
            at: seconds; only differences count.
        """
        elapsed = 0.0 if self._last is None else min(max(at - self._last, 0.0), LONGEST_STEP_S)
        self._last = at
        self._off_s = self._off_s + elapsed if self._off(now, aspect, head_sunk) else 0.0
        return self._off_s >= MOVED_S

    def _off(self, now: Placement, aspect: float, head_sunk: bool) -> bool:
        unit = self._calibrated.width
        right = (now.x - self._calibrated.x) / unit
        down = (now.y - self._calibrated.y) * aspect / unit
        sin, cos = math.sin(self._roll), math.cos(self._roll)
        aside, rise = right * cos + down * sin, right * sin - down * cos
        ratio = max(now.width, unit) / min(now.width, unit)
        risen = rise > (RISEN if head_sunk else SUNK)
        return ratio > WIDTH_RATIO or abs(aside) > ASIDE or rise < -SUNK or risen
