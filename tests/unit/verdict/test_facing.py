"""Which way somebody faces: a skeleton in space, bent, turned, and seen through a pinhole."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from posture.verdict.facing import Facing, direction
from posture.verdict.rule_sets import Judge, Landmarks

# Metres from the middle of the hips: x to where the person faces, y up, z to the person's left.
LEFT_JOINTS = {7: (0.02, 0.72, 0.07), 11: (0.0, 0.5, 0.18), 23: (0.0, 0.0, 0.1)}
FACE = {0: (0.12, 0.68, 0.0)}


def turned(points: np.ndarray, degrees: float, plane: tuple[int, int]) -> np.ndarray:
    """Turned in the plane of two axes, from the first one to the second."""
    angle, (first, second) = math.radians(degrees), plane
    result = points.copy()
    result[:, first] = points[:, first] * math.cos(angle) - points[:, second] * math.sin(angle)
    result[:, second] = points[:, first] * math.sin(angle) + points[:, second] * math.cos(angle)
    return result


def somebody(bent: float = 0.0, yaw: float = 90.0, pitch: float = 0.0, nod: float = 0.0) -> Landmarks:
    """A person bent forward, turned from the camera: 90 faces to the right of the picture, -90 to the left."""
    body = np.zeros((33, 3))
    for index, (x, y, z) in {**LEFT_JOINTS, **FACE}.items():
        body[index] = (x, y, z)
        if index:
            body[index + 1] = (x, y, -z)
    neck = body[[11, 12]].mean(axis=0)
    body[:11] = turned(body[:11] - neck, -nod, (0, 1)) + neck
    body = turned(body, -bent, (0, 1))
    # camera axes: x right, y down, z away; a person of yaw 0 faces the camera
    camera = np.stack([body[:, 2], -body[:, 1], -body[:, 0]], axis=1)
    camera = turned(camera, yaw, (0, 2))
    camera = turned(camera, pitch, (1, 2))
    away = camera[:, 2] + 3.0
    points = np.ones((33, 3))
    points[:, 0] = 640 + 900 * camera[:, 0] / away
    points[:, 1] = 360 + 900 * camera[:, 1] / away
    return Landmarks(points, 1280, 720, camera)


SIDE_VIEWS = [sign * yaw for sign in (1, -1) for yaw in range(45, 136, 15)]


@pytest.mark.parametrize("known", [True, False], ids=["world", "picture alone"])
def test_the_direction_is_right_however_far_somebody_is_bent_or_nods(known: bool) -> None:
    for yaw, bent, nod in itertools.product(SIDE_VIEWS, range(-30, 101, 10), (-20, 0, 30)):
        if not known and not 60 <= abs(yaw) <= 120:
            continue
        for pitch in (-20, 0, 30) if known else (0,):
            seen = somebody(bent, yaw, pitch, nod)
            towards = direction(seen.points, seen.world if known else None)
            assert (towards > 0) == (yaw > 0), (yaw, bent, nod, pitch, towards)


def test_the_near_side_is_measured_if_both_are_seen_as_well() -> None:
    for yaw in SIDE_VIEWS:
        facing = Facing()
        facing.update(somebody(20, yaw).points, somebody(20, yaw).world)
        assert facing.side == ("right" if yaw > 0 else "left")


@pytest.mark.parametrize("facing", [90, -90])
def test_leaning_forward_is_positive_bent_down_to_the_ground(facing: int) -> None:
    for bent in range(10, 111, 10):
        verdict = Judge().judge(somebody(bent, facing, nod=20), 0.0)
        assert verdict.body_angle == pytest.approx(bent, abs=1), bent
        assert verdict.neck_angle is not None
        assert verdict.neck_angle > 0


def test_noise_about_a_frontal_view_turns_nobody_round() -> None:
    facing = Facing()
    facing.update(somebody(yaw=60).points, somebody(yaw=60).world)
    seen = set()
    for yaw in (30, 10, -10, 5, -15, 10, -5):
        facing.update(somebody(yaw=yaw).points, somebody(yaw=yaw).world)
        seen.add((facing.forward, facing.side))
    assert seen == {(1, "right")}


def test_somebody_who_turns_round_is_seen_to() -> None:
    facing = Facing()
    for yaw in range(90, -91, -15):
        facing.update(somebody(yaw=yaw).points, somebody(yaw=yaw).world)
    assert (facing.forward, facing.side) == (-1, "left")


def test_a_side_that_becomes_slightly_better_visible_is_no_reason_to_change_to_it() -> None:
    facing = Facing()
    for visibility in (1.0, 0.97, 0.95):
        seen = somebody()
        seen.points[[8, 12, 24], 2] = visibility
        facing.update(seen.points, seen.world)
        assert facing.side == "right"


def test_the_far_side_is_measured_where_the_near_one_is_hidden() -> None:
    facing = Facing()
    seen = somebody()
    seen.points[24, 2] = 0.3
    facing.update(seen.points, seen.world)
    assert (facing.forward, facing.side) == (1, "left")


def test_the_next_person_faces_as_that_person_does() -> None:
    judge = Judge()
    judge.judge(somebody(30, 90), 0.0)
    judge.judge(None, 1.0)
    verdict = judge.judge(somebody(30, -90), 2.0)
    assert verdict.side == "left"
    assert verdict.body_angle is not None
    assert verdict.body_angle > 0
