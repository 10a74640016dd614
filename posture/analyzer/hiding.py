"""``blurred_face``: what stays sharp is the body of the measured person; heads and all the rest are made coarse.

A model that looks for faces or people misses some: the small ones, those at the border, those half hidden. So
nothing depends on finding them. Sharp is only what lies along the trunk and limbs of the person who is measured,
and there the heads of all who were found are hidden, too. Where the measured head, or another one, may be anywhere,
nothing stays sharp. What can show a face is somebody whom the model misses and who covers that body.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from posture.verdict.facing import SIDES
from posture.verdict.rule_sets import MIN_VISIBILITY

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

CELLS = 12
"""Into so many cells a side the picture is made coarse: a head as high as a third of it gets four."""
FACE = tuple(range(11))
TRUNK = (11, 12, 24, 23)
LIMBS = (
    *((11, 13), (13, 15), (12, 14), (14, 16)),  # arms
    *((23, 25), (25, 27), (27, 31), (24, 26), (26, 28), (28, 32)),  # legs and feet
)
LIMB_WIDTH = 0.3
"""As a share of the trunk's length, or of the shoulders' distance where that is more."""


def hide_people(canvas: Picture, person: Points | None, others: Sequence[Points]) -> None:
    """Make all of the picture coarse, in place, but the body of one person.

    Args:
        canvas: the picture.
        person: the measured one's landmarks, shape (33, 3), in pixels of this picture; None shows nothing.
        others: those of everybody else who was found.
    """
    height, width = canvas.shape[:2]
    cells = cv2.resize(canvas, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    shown = _body(person, width, height)
    for points in (person, *others):
        head = _head_box(points, width, height)
        left, top, right, bottom = head or (0, 0, width, height)
        shown[top:bottom, left:right] = 0
    np.copyto(canvas, coarse, where=(shown == 0)[:, :, None])


def _body(points: Points | None, width: int, height: int) -> npt.NDArray[np.uint8]:
    """A mask of trunk and limbs, as far as they were seen."""
    mask = np.zeros((height, width), np.uint8)
    if points is None or not np.isfinite(points).all():
        return mask
    at = np.clip(points[:, :2], (-2 * width, -2 * height), (3 * width, 3 * height)).round().astype(np.int32)
    length = max(math.dist(at[upper], at[lower]) for upper, lower in ((11, 23), (12, 24), (11, 12)))
    thick = max(1, round(LIMB_WIDTH * min(length, 2 * max(width, height))))
    seen = points[:, 2] >= MIN_VISIBILITY
    trunk = at[[index for index in TRUNK if seen[index]]]
    if len(trunk) > 1:
        cv2.fillConvexPoly(mask, cv2.convexHull(trunk), 255)
        cv2.polylines(mask, [trunk], True, 255, thick)
    for start, end in LIMBS:
        if seen[start] and seen[end]:
            cv2.line(mask, at[start].tolist(), at[end].tolist(), 255, thick)
    return mask


def _head_box(points: Points | None, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the whole head with a margin; None when the face was not found with certainty."""
    if points is None or not np.isfinite(points).all():
        return None
    face = points[list(FACE)]
    if float(np.median(face[:, 2])) < MIN_VISIBILITY:
        return None
    # The face is only the front of the head.
    centre = (face[:, :2].mean(axis=0) + points[[7, 8], :2].mean(axis=0)) / 2
    spread = float(np.hypot(*(face[:, :2] - centre).T).max())
    # A head that is turned away or bowed has a small face, but its neck is as long as ever.
    neck = max(math.dist(points[ear, :2], points[shoulder, :2]) for ear, shoulder, _ in SIDES.values())
    reach = max(2.5 * spread, 1.15 * neck, 0.03 * max(width, height))
    left, top = (int(side) for side in np.floor(np.clip(centre - reach, 0, (width, height))))
    right, bottom = (int(side) for side in np.ceil(np.clip(centre + reach, 0, (width, height))))
    return left, top, right, bottom
