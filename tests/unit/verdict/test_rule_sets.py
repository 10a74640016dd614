"""Posture rules: synthetic skeletons whose true angles are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture.errors import UserError
from posture.verdict.rule_sets import RULE_SETS, Baseline, Judge, Landmarks, Verdict, calibrate, loads

WIDTH, HEIGHT = 1280, 720
MIRROR = [0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21]
MIRROR += [24, 23, 26, 25, 28, 27, 30, 29, 32, 31]


def skeleton(
    neck: float = 0.0,
    body: float = 0.0,
    *,
    facing: int = 1,
    side: str = "left",
    shoulder_ratio: float = 0.1,
    size: float = 1.0,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Landmarks:
    """A person seen from the side, leaning by these angles to where the face points (1: right)."""
    points = np.zeros((33, 3))
    torso, throat = 200.0 * size, 90.0 * size
    hip = np.array([width / 2, height / 2 + torso / 2])
    shoulder = hip + torso * np.array([facing * math.sin(math.radians(body)), -math.cos(math.radians(body))])
    ear = shoulder + throat * np.array([facing * math.sin(math.radians(neck)), -math.cos(math.radians(neck))])
    points[:, :2] = hip
    points[0, :2] = ear + np.array([facing * 60.0 * size, 0.0])
    far = np.array([0.0, -shoulder_ratio * torso])
    for index, place in ((7, ear), (11, shoulder), (23, hip)):
        near, other = (index, index + 1) if side == "left" else (index + 1, index)
        points[near] = (*place, 0.99)
        points[other] = (*(place + far), 0.7)
    return Landmarks(points, width, height)


def turned(landmarks: Landmarks, degrees: float) -> Landmarks:
    """The picture turned clockwise about its centre."""
    centre = np.array([landmarks.width / 2, landmarks.height / 2])
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = landmarks.points.copy()
    points[:, :2] = (points[:, :2] - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre
    return Landmarks(points, landmarks.width, landmarks.height)


def angles(verdict: Verdict) -> tuple[float, float]:
    assert verdict.neck_angle is not None, verdict
    assert verdict.body_angle is not None
    return verdict.neck_angle, verdict.body_angle


def judge(neck: float, body: float, rule_set: str = "upright") -> str:
    return Judge(rule_set).judge(skeleton(neck, body), 0.0).status


leans = st.floats(-40, 40)
facings = st.sampled_from([1, -1])


@given(neck=leans, body=leans, facing=facings)
def test_the_angles_of_a_known_pose_are_found(neck: float, body: float, facing: int) -> None:
    found = angles(Judge().judge(skeleton(neck, body, facing=facing), 0.0))
    assert found == pytest.approx((neck, body), abs=1e-6)


@given(neck=leans, body=leans, facing=facings, turn=st.floats(-40, 40))
def test_turning_the_picture_changes_both_angles_by_the_turn(
    neck: float, body: float, facing: int, turn: float
) -> None:
    found = angles(Judge().judge(turned(skeleton(neck, body, facing=facing), turn), 0.0))
    assert found == pytest.approx((neck + facing * turn, body + facing * turn), abs=1e-6)


@given(neck=leans, body=leans, facing=facings, roll=st.floats(-45, 45))
def test_a_camera_roll_undoes_the_turn_of_the_picture(neck: float, body: float, facing: int, roll: float) -> None:
    found = angles(Judge(camera_roll_deg=roll).judge(turned(skeleton(neck, body, facing=facing), roll), 0.0))
    assert found == pytest.approx((neck, body), abs=1e-6)


def test_a_camera_that_hangs_upside_down_is_a_roll_of_180_degrees() -> None:
    upside_down = turned(skeleton(25, 12), 180)
    assert angles(Judge(camera_roll_deg=180).judge(upside_down, 0.0)) == pytest.approx((25, 12))


@given(neck=leans, body=leans, side=st.sampled_from(["left", "right"]))
def test_mirroring_changes_the_side_and_nothing_else(neck: float, body: float, side: str) -> None:
    original = skeleton(neck, body, side=side)
    points = original.points[MIRROR].copy()
    points[:, 0] = WIDTH - points[:, 0]
    before = Judge().judge(original, 0.0)
    after = Judge().judge(Landmarks(points, WIDTH, HEIGHT), 0.0)
    assert angles(after) == pytest.approx(angles(before), abs=1e-6)
    assert after.status == before.status
    assert {before.side, after.side} == {"left", "right"}


@given(neck=leans, body=leans, size=st.floats(0.05, 1.2))
def test_the_size_of_the_person_changes_nothing(neck: float, body: float, size: float) -> None:
    found = angles(Judge().judge(skeleton(neck, body, size=size), 0.0))
    assert found == pytest.approx((neck, body), abs=1e-5)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 1280), (640, 640), (3000, 500)], ids=str)
def test_a_lean_of_20_degrees_reads_20_at_every_aspect_ratio(width: int, height: int) -> None:
    assert angles(Judge().judge(skeleton(20, 20, width=width, height=height), 0.0)) == pytest.approx((20, 20))


@pytest.mark.parametrize(
    ("rule_set", "neck", "body", "status"),
    [
        ("upright", 34.9, 19.9, "Good"),
        ("upright", 35.1, 0, "Bad"),
        ("upright", 0, 20.1, "Bad"),
        ("upright", 0, -20.1, "Bad"),
        ("upright", 2, 0, "Good"),
        ("tutorial", 39.9, 9.9, "Good"),
        ("tutorial", 40.1, 0, "Bad"),
        ("tutorial", 0, 10.1, "Bad"),
        ("first-deployment", 10.1, 0, "Good"),
        ("first-deployment", 9.9, 0, "Bad"),
        ("first-deployment", 49.9, 19.9, "Good"),
        ("first-deployment", 50.1, 0, "Bad"),
        ("first-deployment", 30, 20.1, "Bad"),
        ("iso11226", 80, 19.9, "Good"),
        ("iso11226", 0, 59.9, "Good"),
        ("iso11226", 0, 60.1, "Bad"),
    ],
    ids=str,
)
def test_each_rule_set_changes_its_mind_at_its_limits(rule_set: str, neck: float, body: float, status: str) -> None:
    assert judge(neck, body, rule_set) == status


@pytest.mark.parametrize(
    ("neck", "body", "status"),
    [(16.9, 7.9, "Good"), (17.1, -4, "Bad"), (-7.1, -4, "Bad"), (5, 8.1, "Bad"), (5, -16.1, "Bad")],
    ids=str,
)
def test_baseline_allows_12_degrees_around_the_calibrated_pose(neck: float, body: float, status: str) -> None:
    verdict = Judge("baseline", baseline=Baseline(neck=5, body=-4)).judge(skeleton(neck, body), 0.0)
    assert verdict.status == status


@pytest.mark.parametrize(
    ("neck", "body", "reason"),
    [(50, 0, "neck"), (0, 30, "body"), (50, 30, "neck+body"), (0, 0, "")],
    ids=["neck", "body", "both", "none"],
)
def test_the_reason_names_the_limits_that_are_passed(neck: float, body: float, reason: str) -> None:
    assert Judge().judge(skeleton(neck, body), 0.0).reason == reason


@pytest.mark.parametrize(("body", "allowed_s"), [(20.1, 239.55), (40, 150), (60, 60)], ids=["20", "40", "60"])
def test_iso11226_allows_a_bent_trunk_240_s_at_20_degrees_falling_to_60_s_at_60(
    body: float, allowed_s: float
) -> None:
    body -= 1e-9  # the skeleton's own rounding must not decide the case of 60
    iso = Judge("iso11226")
    bad_at = next(t for t in range(400) if iso.judge(skeleton(0, body), float(t)).status == "Bad")
    assert allowed_s <= bad_at <= allowed_s + 1


def test_iso11226_allows_20_degrees_without_limit_of_time() -> None:
    iso = Judge("iso11226")
    assert {iso.judge(skeleton(0, 19.9), float(t)).status for t in range(0, 3600, 5)} == {"Good"}


def test_iso11226_forgives_after_sitting_up_and_not_for_a_single_upright_frame() -> None:
    iso = Judge("iso11226")
    for t in range(140):
        assert iso.judge(skeleton(0, 40), float(t)).status == "Good"
    iso.judge(skeleton(0, 10), 140.0)
    after_a_glitch = [iso.judge(skeleton(0, 40), float(t)).status for t in range(141, 160)]
    assert after_a_glitch[-1] == "Bad"
    for t in range(160, 165):
        iso.judge(skeleton(0, 10), float(t))
    after_a_break = [iso.judge(skeleton(0, 40), float(t)).status for t in range(165, 300)]
    assert set(after_a_break) == {"Good"}


def test_iso11226_starts_anew_after_an_hour_without_frames() -> None:
    iso = Judge("iso11226")
    for t in range(140):
        iso.judge(skeleton(0, 40), float(t))
    assert iso.judge(skeleton(0, 40), 3740.0).status == "Good"
    assert iso.judge(skeleton(0, 40), 3750.0).status == "Good"


def test_nobody_is_no_person() -> None:
    verdict = Judge().judge(None, 0.0)
    assert (verdict.status, verdict.reason, verdict.neck_angle) == ("Unknown", "no_person", None)


@pytest.mark.parametrize("index", [7, 11, 23], ids=["ear", "shoulder", "hip"])
@pytest.mark.parametrize("problem", ["invisible", "outside", "nan"])
def test_without_ear_shoulder_or_hip_there_is_no_verdict(index: int, problem: str) -> None:
    landmarks = skeleton(50, 50)  # Bad, if it could be seen
    landmarks.points[[8, 12, 24], 2] = 0.0
    if problem == "invisible":
        landmarks.points[index, 2] = 0.49
    elif problem == "outside":
        landmarks.points[index, 1] = HEIGHT + 1
    else:
        landmarks.points[index] = math.nan
    verdict = Judge().judge(landmarks, 0.0)
    assert (verdict.status, verdict.reason) == ("Unknown", "partial_landmarks")


@pytest.mark.parametrize("size", [0.1, 1.0], ids=["far", "near"])
@pytest.mark.parametrize(("ratio", "status"), [(0.39, "Good"), (0.41, "Unknown")], ids=["side", "frontal"])
def test_shoulders_far_apart_are_no_side_view_at_any_distance(ratio: float, status: str, size: float) -> None:
    verdict = Judge().judge(skeleton(shoulder_ratio=ratio, size=size), 0.0)
    assert verdict.status == status
    assert verdict.reason == ("not_side_view" if status == "Unknown" else "")


@pytest.mark.parametrize(("body", "status"), [(119, "Bad"), (121, "Unknown"), (175, "Unknown"), (-175, "Unknown")])
def test_a_person_that_the_model_sees_upside_down_gets_no_verdict(body: float, status: str) -> None:
    verdict = Judge().judge(skeleton(10, body, size=0.4), 0.0)
    assert verdict.status == status
    assert verdict.reason == ("upside_down" if status == "Unknown" else "body")


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_better_visible_side_is_measured(side: str) -> None:
    assert Judge().judge(skeleton(side=side), 0.0).side == side


@pytest.mark.parametrize("points", [np.zeros((33, 3)), np.ones((33, 3))], ids=["zeros", "ones"])
def test_a_degenerate_pose_gets_no_verdict(points: np.ndarray) -> None:
    assert Judge().judge(Landmarks(points, WIDTH, HEIGHT), 0.0).status == "Unknown"


@given(points=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=99, max_size=99))
def test_no_numbers_raise(points: list[float]) -> None:
    landmarks = Landmarks(np.array(points).reshape(33, 3), WIDTH, HEIGHT)
    assert Judge().judge(landmarks, 0.0).status in {"Good", "Bad", "Unknown"}


def test_an_unknown_rule_set_is_refused_with_the_accepted_names() -> None:
    with pytest.raises(UserError, match=r"'upwrong'.*upright, tutorial, first-deployment, iso11226, baseline"):
        Judge("upwrong")


def test_baseline_without_a_calibrated_pose_is_refused() -> None:
    with pytest.raises(UserError, match="--calibrate"):
        Judge("baseline")


def test_every_rule_set_names_its_source() -> None:
    assert all(rule.source and rule.good_when for rule in RULE_SETS.values())
    assert set(RULE_SETS) == {"upright", "tutorial", "first-deployment", "iso11226", "baseline"}


def test_calibration_takes_the_median_so_that_a_glance_down_does_no_harm() -> None:
    frames = [skeleton(12, -3)] * 20 + [skeleton(70, 30)] * 5
    baseline = calibrate(frames)
    assert (baseline.neck, baseline.body) == pytest.approx((12, -3))


def test_calibration_of_too_few_measurable_frames_says_why() -> None:
    frames: list[Landmarks | None] = [skeleton(12, -3)] * 5 + [None] * 20
    with pytest.raises(UserError, match=r"5 of 25 frames.*no_person 20"):
        calibrate(frames)


@given(neck=st.floats(-90, 90), body=st.floats(-90, 90), rule_set=st.sampled_from(sorted(RULE_SETS)))
def test_the_load_reaches_1_just_where_the_verdict_turns_bad(neck: float, body: float, rule_set: str) -> None:
    baseline = Baseline(5, -4)
    used = loads(rule_set, neck, body, baseline if rule_set == "baseline" else None)
    if used is None or any(abs(load - 1) < 1e-6 for load in used):
        return
    verdict = Judge(rule_set, baseline=baseline).judge(skeleton(neck, body, size=0.5), 0.0)
    assert (max(used) >= 1) == (verdict.status == "Bad")
