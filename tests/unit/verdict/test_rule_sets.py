"""Posture rules: synthetic skeletons whose true angles are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posture.errors import UserError
from posture.verdict.rule_sets import (
    ADVICE,
    NO_VERDICT,
    RULE_SETS,
    Baseline,
    Judge,
    Landmarks,
    Verdict,
    calibrate,
    loads,
)
from tests.support.skeletons import seated

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


FROM_SIDE = ("upright", "tutorial", "first-deployment", "baseline")


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
    verdict = Judge("upright").judge(skeleton(shoulder_ratio=ratio, size=size), 0.0)
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
    with pytest.raises(
        UserError, match=r"'upwrong'.*upright, tutorial, first-deployment, iso11226, baseline, head-height, auto"
    ):
        Judge("upwrong")


def test_baseline_without_a_calibrated_pose_is_refused() -> None:
    with pytest.raises(UserError, match="--calibrate"):
        Judge("baseline")


def test_every_rule_set_names_its_source() -> None:
    assert all(rule.source and rule.good_when for rule in RULE_SETS.values())
    assert set(RULE_SETS) == {*FROM_SIDE, "iso11226", "head-height", "auto"}


def test_calibration_takes_the_median_so_that_a_glance_down_does_no_harm() -> None:
    frames = [skeleton(12, -3)] * 20 + [skeleton(70, 30)] * 5
    baseline = calibrate(frames)
    assert (baseline.neck, baseline.body) == pytest.approx((12, -3))


def test_calibration_of_too_few_measurable_frames_says_why() -> None:
    frames: list[Landmarks | None] = [skeleton(12, -3)] * 5 + [None] * 20
    with pytest.raises(UserError, match=r"5 of 25 frames.*no_person 20"):
        calibrate(frames)


@given(neck=st.floats(-90, 90), body=st.floats(-90, 90), rule_set=st.sampled_from(FROM_SIDE))
def test_the_load_reaches_1_just_where_the_verdict_turns_bad(neck: float, body: float, rule_set: str) -> None:
    baseline = Baseline(5, -4)
    used = loads(rule_set, {"neck": neck, "body": body}, baseline)
    if used is None or any(abs(load - 1) < 1e-6 for load in used.values()):
        return
    verdict = Judge(rule_set, baseline=baseline).judge(skeleton(neck, body, size=0.5), 0.0)
    assert (max(used.values()) >= 1) == (verdict.status == "Bad")


PITCHES = range(-20, 31, 10)
each_pitch = pytest.mark.parametrize("pitch", PITCHES)


def folded(yaw: int) -> int:
    """Degrees from the camera, 0 to 180, of a person turned by so many either way."""
    return min(yaw % 360, 360 - yaw % 360)


@each_pitch
@pytest.mark.parametrize("yaw", range(0, 360, 15))
def test_every_view_gets_the_rule_that_fits_it(yaw: int, pitch: int) -> None:
    baseline = calibrate([seated(pitch=pitch)] * 6)
    verdict = Judge("auto", baseline=baseline).judge(seated(yaw=yaw, pitch=pitch), 0.0)
    if folded(yaw) in (45, 135):  # at the limit the pitch decides
        assert verdict.rule_set in ("upright", "head-height") or verdict.reason == "not_front_view"
    elif 45 < folded(yaw) < 135:
        assert verdict.rule_set == "upright"
    elif folded(yaw) < 45:
        assert verdict.rule_set == "head-height"
    else:
        assert verdict.reason == "not_front_view"


@each_pitch
@pytest.mark.parametrize("yaw", [75, 90, 105, 255, 270, 285])
def test_from_the_side_a_leaning_trunk_is_measured_within_5_degrees(yaw: int, pitch: int) -> None:
    for body in (-15, 0, 15):
        neck_and_body = angles(Judge("upright").judge(seated(10, body, yaw=yaw, pitch=pitch), 0.0))
        assert neck_and_body[1] == pytest.approx(body, abs=5)


@each_pitch
@pytest.mark.parametrize("yaw", [-15, 0, 15])
def test_a_head_that_sinks_by_an_eighth_is_bad_from_the_front(yaw: int, pitch: int) -> None:
    judge_of_stream = Judge("head-height", baseline=calibrate([seated(pitch=pitch)] * 6))
    sunk = judge_of_stream.judge(seated(yaw=yaw, pitch=pitch, sunk=0.125), 0.0)
    assert (sunk.status, sunk.reason) == ("Bad", "head_height")
    assert sunk.neck_angle is None
    assert judge_of_stream.judge(seated(yaw=yaw, pitch=pitch), 0.0).status == "Good"


@each_pitch
@pytest.mark.parametrize("yaw", [-30, 30])
def test_turning_the_body_is_never_called_bad(yaw: int, pitch: int) -> None:
    judge_of_stream = Judge("head-height", baseline=calibrate([seated(pitch=pitch)] * 6))
    assert judge_of_stream.judge(seated(yaw=yaw, pitch=pitch), 0.0).status == "Good"


@given(sunk=st.floats(-0.1, 0.3), turn=st.floats(-180, 180), away=st.floats(1.0, 3.0))
def test_turning_the_picture_and_going_away_change_nothing_from_the_front(
    sunk: float, turn: float, away: float
) -> None:
    judge_of_stream = Judge("head-height", baseline=Baseline(head_height=0.6))
    before = judge_of_stream.judge(seated(sunk=sunk), 0.0).head_drop
    rolled = turned(seated(sunk=sunk), turn)
    rolled = Landmarks(rolled.points, 4 * WIDTH, 4 * WIDTH, world=seated().world)
    rolled.points[:, :2] += WIDTH
    assert judge_of_stream.judge(rolled, 0.0).head_drop == pytest.approx(before)
    assert judge_of_stream.judge(seated(sunk=sunk, away=away), 0.0).head_drop == pytest.approx(before, abs=0.08)


def mirrored(landmarks: Landmarks) -> Landmarks:
    points, world = landmarks.points[MIRROR].copy(), None
    points[:, 0] = landmarks.width - points[:, 0]
    if landmarks.world is not None:
        world = landmarks.world[MIRROR] * (-1, 1, 1)
    return Landmarks(points, landmarks.width, landmarks.height, world=world)


@pytest.mark.parametrize("yaw", range(0, 180, 15))
def test_mirroring_changes_no_verdict_of_any_view(yaw: int) -> None:
    judge_of_stream = Judge(baseline=Baseline(head_height=0.6))
    before = judge_of_stream.judge(seated(20, 10, yaw=yaw), 0.0)
    after = judge_of_stream.judge(mirrored(seated(20, 10, yaw=yaw)), 0.0)
    assert (after.status, after.reason, after.rule_set) == (before.status, before.reason, before.rule_set)
    assert after.measures == pytest.approx(before.measures)


def test_from_the_front_without_a_calibration_the_answer_is_to_calibrate() -> None:
    verdict = Judge().judge(seated(), 0.0)
    assert (verdict.status, verdict.reason) == ("Unknown", "not_calibrated")
    assert ADVICE[verdict.reason] == "calibrate this stream: --calibrate"
    assert set(ADVICE) | {"no_person"} == set(NO_VERDICT)


@pytest.mark.parametrize("index", [0, 7, 8, 11, 12])
def test_from_the_front_nose_ears_and_shoulders_must_be_seen_and_no_hip(index: int) -> None:
    landmarks = seated()
    landmarks.points[23:, 2] = 0.0
    judge_of_stream = Judge(baseline=Baseline(head_height=0.6))
    assert judge_of_stream.judge(landmarks, 0.0).status == "Good"
    landmarks.points[index, 2] = 0.49
    assert judge_of_stream.judge(landmarks, 0.0).reason == "partial_landmarks"


def shifted(landmarks: Landmarks, x: float, y: float) -> Landmarks:
    points = landmarks.points + np.array([x, y, 0.0])
    return Landmarks(points, landmarks.width, landmarks.height, world=landmarks.world)


@pytest.mark.parametrize(
    "moved",
    [
        pytest.param(shifted(seated(), 200, 0), id="sideways"),
        pytest.param(shifted(seated(sunk=0.1), 0, -40), id="the camera lower"),
        pytest.param(shifted(seated(), 0, 120), id="the camera higher"),
        pytest.param(seated(away=1.8), id="the seat back"),
    ],
)
def test_a_moved_camera_or_seat_is_noticed_after_a_minute(moved: Landmarks) -> None:
    judge_of_stream = Judge(baseline=calibrate([seated()] * 6))
    reasons = [judge_of_stream.judge(moved, float(t)).reason for t in range(70)]
    assert "calibrate_again" not in reasons[:60]
    assert set(reasons[61:]) == {"calibrate_again"}
    assert judge_of_stream.judge(seated(), 71.0).status == "Good", "and it is over when all is in its place again"


def test_a_person_who_slumps_for_an_hour_is_not_taken_for_a_moved_camera() -> None:
    judge_of_stream = Judge(baseline=calibrate([seated()] * 6))
    slumped = shifted(seated(sunk=0.2, away=1.2), 20, 25)
    assert {judge_of_stream.judge(slumped, float(t)).reason for t in range(0, 3600, 5)} == {"head_height"}


def test_limits_stand_in_place_of_the_rule_sets_own() -> None:
    assert Judge("upright", limits={"neck": 30, "body": 18}).judge(skeleton(32, 0), 0.0).reason == "neck"
    assert Judge("upright", limits={"neck": 30, "body": 18}).judge(skeleton(0, 19), 0.0).reason == "body"
    baseline = Baseline(5, -4, head_height=0.6)
    assert (
        Judge("baseline", baseline=baseline, limits={"baseline": 20}).judge(skeleton(20, 0), 0.0).status == "Good"
    )
    calibrated = calibrate([seated()] * 6)
    sunk = seated(sunk=0.09)
    assert Judge(baseline=calibrated).judge(sunk, 0.0).status == "Bad"
    assert Judge(baseline=calibrated, limits={"head_height": 0.2}).judge(sunk, 0.0).status == "Good"


def test_a_limit_that_leaves_nothing_good_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"limits.neck: 8 leaves nothing Good; accepted by first-deployment: above 10"
    ):
        Judge("first-deployment", limits={"neck": 8})


def test_head_height_without_a_calibrated_pose_is_refused() -> None:
    with pytest.raises(UserError, match="baseline_head_height"):
        Judge("head-height", baseline=Baseline(5, -4))


def test_calibration_from_the_front_and_from_the_side_yield_what_their_rules_need() -> None:
    front = calibrate([seated()] * 6)
    assert (front.neck, front.body, front.sitting_height) == (None, None, None)
    assert front.head_height is not None
    assert front.placement is not None
    side = calibrate([seated(yaw=90)] * 6)
    assert (side.head_height, side.placement) == (None, None)
    assert side.sitting_height is not None
    assert (side.neck, side.body) == pytest.approx((10, 0), abs=2)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        pytest.param([seated()] * 4, "4 of 4 frames", id="too few"),
        pytest.param([seated()] * 5 + [None] * 6, "5 of 11 frames.*no_person 6", id="nobody in most"),
        pytest.param([seated(yaw=180)] * 9, "not_front_view 9", id="from behind"),
        pytest.param([seated(sunk=step / 20) for step in range(9)], "moved: head_height", id="a nodding head"),
        pytest.param(
            [shifted(seated(), x, 0) for x in range(-200, 201, 40)], "moved: place", id="somebody who sways"
        ),
        pytest.param([seated(10, body, yaw=90) for body in range(0, 50, 5)], "moved: body", id="bending down"),
        pytest.param(
            [shifted(seated(yaw=90), x, 0) for x in range(-200, 201, 40)],
            "moved: place",
            id="walking past the camera",
        ),
        pytest.param(
            [seated(10, 35, yaw=90)] * 9, "body leans 3. degrees; accepted: less than 20", id="bent all along"
        ),
        pytest.param([seated(50, 0, yaw=90)] * 9, "neck leans .*accepted: less than 35", id="the head hangs"),
        pytest.param([seated(sunk=0.9)] * 9, "Sit straight", id="a head on the desk"),
        pytest.param(
            [seated(yaw=0), seated(yaw=90)] * 5 + [None], "5 of 11 frames", id="somebody who turns to and fro"
        ),
    ],
)
def test_a_poor_calibration_is_refused_and_says_why(frames: list[Landmarks | None], said: str) -> None:
    with pytest.raises(UserError, match=f"(?s)^calibration: .*{said}"):
        calibrate(frames)


def test_a_slump_that_the_angles_do_not_see_is_seen_by_the_sitting_height() -> None:
    upright, slumped = seated(yaw=90), seated(yaw=90)
    for index in (0, 7, 8, 11, 12):
        slumped.points[index, 1] += 30
    calibrated = calibrate([upright] * 6)
    verdict = Judge("baseline", baseline=calibrated).judge(slumped, 0.0)
    assert (verdict.status, verdict.reason) == ("Bad", "sitting_height")
    without = Judge("baseline", baseline=Baseline(calibrated.neck, calibrated.body)).judge(slumped, 0.0)
    assert without.status == "Good"
    slumped.points[[25, 26], 2] = 0.2
    assert Judge("baseline", baseline=calibrated).judge(slumped, 0.0).status == "Good", "a hidden knee: no measure"
