"""People of 33 landmarks in space, seen by a pinhole camera: poses and views whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from posture.verdict.rule_sets import Landmarks

WIDTH, HEIGHT, FOCAL = 1280, 960, 1100.0
DISTANCE_M = 2.5
TORSO, NECK, SHOULDER, HIP, THIGH = 0.5, 0.22, 0.2, 0.14, 0.42
"""Metres; the widths of shoulders and hips are halved."""


def seated(
    neck: float = 10.0,
    body: float = 0.0,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    sunk: float = 0.0,
    away: float = 1.0,
) -> Landmarks:
    """Somebody who sits before the camera.

    Args:
        neck: degrees by which the line from shoulders to ears leans forward.
        body: likewise, from hips to shoulders.
        yaw: degrees by which the person is turned from the camera: 0 frontal, 90 facing the picture's right side.
        pitch: degrees by which the camera looks down.
        sunk: the share by which the head stands lower over the shoulders.
        away: the distance to the camera, in DISTANCE_M.
    """
    points = np.zeros((33, 3))  # the person's axes: x to the person's left, y up, z forward
    shoulders = TORSO * leaning(body)
    ears = shoulders + NECK * (1 - sunk) * leaning(neck)
    across = np.array([1.0, 0.0, 0.0])
    sides = ((0, 1.0), (1, -1.0))  # left is the lower index
    for offset, side in sides:
        points[7 + offset] = ears + side * 0.075 * across
        points[11 + offset] = shoulders + side * SHOULDER * across
        points[23 + offset] = (side * HIP, 0.0, 0.0)
        points[25 + offset] = (side * HIP, 0.0, THIGH)
    points[0] = ears + np.array([0.0, -0.01, 0.1])
    turned = points @ about_y(-yaw)
    in_camera = turned * (1.0, -1.0, -1.0) @ about_x(pitch)  # the person faces the camera; y down, z away
    return pinhole(in_camera, DISTANCE_M * away)


def pinhole(world: npt.NDArray[np.float64], distance: float) -> Landmarks:
    """What a camera at this distance from the hips sees of points by its own axes."""
    depth = world[:, 2] + distance
    points = np.ones((33, 3))
    points[:, 2] = np.where(world[:, 2] <= 0, 1.0, 0.8)  # what is turned away is seen less well
    points[:, 0] = WIDTH / 2 + FOCAL * world[:, 0] / depth
    points[:, 1] = 0.65 * HEIGHT + FOCAL * world[:, 1] / depth
    return Landmarks(points, WIDTH, HEIGHT, world=world)


def leaning(degrees: float) -> npt.NDArray[np.float64]:
    """A unit vector that leans forward from the vertical."""
    return np.array([0.0, math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def about_y(degrees: float) -> npt.NDArray[np.float64]:
    """The matrix that row vectors are multiplied with to turn them about y."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


def about_x(degrees: float) -> npt.NDArray[np.float64]:
    """Likewise, about x."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])
