"""Measures of a pose that are pure geometry. Arrays in, numbers out; landmarks by the model's 33 indices."""

from __future__ import annotations

import math

import numpy as np

from posture.verdict.facing import NOSE, Points

EARS = (7, 8)
SHOULDERS = (11, 12)
HIPS = (23, 24)
# side -> ear, hip, knee
EAR_HIP_KNEE = {"left": (7, 23, 25), "right": (8, 24, 26)}


def body_yaw(world: Points) -> float:
    """By how many degrees the trunk is turned from the camera: 0 frontal, 90 from the side, 180 from behind.

    Args:
        world: shape (33, 3), metres by the camera's axes: x to the right, y down, z away.
    """
    # seen from above; forward is at right angles to it
    x, _, z = world[SHOULDERS[0]] - world[SHOULDERS[1]] + world[HIPS[0]] - world[HIPS[1]]
    return math.degrees(math.atan2(abs(z), x))


def head_height(points: Points) -> float:
    """How high the head stands over the shoulders, in shoulder widths, seen from the front.

    The head is half-way between nose and ears, so that nodding moves it little. Up is the perpendicular of the
    shoulder line, so that turning the picture changes nothing.

    Args:
        points: shape (33, 2 or more), pixels; the shoulders apart.
    """
    left, right = points[SHOULDERS[0], :2], points[SHOULDERS[1], :2]
    across = left - right
    up = np.array([across[1], -across[0]])
    head = (points[list(EARS), :2].mean(axis=0) + points[NOSE, :2]) / 2
    return float((head - (left + right) / 2) @ up / (across @ across))


def sitting_height(points: Points, side: str, roll: float = 0.0) -> float:
    """How high the ear is over the hip, in lengths of the thigh, seen from the side.

    Args:
        points: shape (33, 2 or more), pixels; hip and knee apart.
        side: ``left`` or ``right``.
        roll: of the camera, in radians, clockwise.
    """
    ear, hip, knee = (points[index, :2] for index in EAR_HIP_KNEE[side])
    up = np.array([math.sin(roll), -math.cos(roll)])
    return float((ear - hip) @ up / math.dist(hip, knee))
