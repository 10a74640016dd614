"""Annotated pictures: what can be seen, and in the privacy modes what cannot."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from posture.analyzer import drawing
from posture.analyzer.drawing import annotate
from posture.verdict.rule_sets import Landmarks, Verdict

PICTURES = Path(__file__).resolve().parent / "pictures"
WHEN = datetime(2026, 11, 24, 5, 17, 3, tzinfo=timezone.utc)
GOOD = Verdict("Good", "", 16.4, 4.0, "left", "upright")
BAD = Verdict("Bad", "neck+body", 48.0, -31.0, "right", "upright")
NOBODY = Verdict("Unknown", "no_person", None, None, "", "upright")
SUNK = Verdict("Bad", "head_height", None, None, "", "head-height", head_drop=0.12)
MOVED = Verdict("Unknown", "calibrate_again", None, None, "", "auto")
PARTIAL = Verdict("Unknown", "partial_landmarks", None, None, "", "upright")

SIZES = [(64, 64), (160, 120), (120, 640), (640, 480), (1920, 1080), (4000, 3000), (3000, 40), (1, 1)]
GROUNDS = {
    "white": lambda shape: np.full(shape, 255, np.uint8),
    "black": lambda shape: np.zeros(shape, np.uint8),
    "busy": lambda shape: np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8),
}


def person(width: int, height: int, visibility: float = 0.95) -> Landmarks:
    """Somebody in the middle of the picture, facing left."""
    points = np.zeros((33, 3))
    points[:, :2] = (0.5, 0.6)
    points[:11, :2] = np.array([0.47, 0.22]) + np.linspace(-0.015, 0.015, 11)[:, None]
    points[[7, 8], :2] = (0.51, 0.22)
    points[[11, 12], :2] = (0.53, 0.36)
    points[[23, 24], :2] = (0.55, 0.66)
    points[25:, :2] = (0.40, 0.85)
    points[:, 2] = visibility
    return Landmarks(points * (width, height, 1.0), width, height)


def picture(width: int, height: int, ground: str = "busy") -> np.ndarray:
    return np.asarray(GROUNDS[ground]((height, width, 3)))


def draw(bgr: np.ndarray, verdict: Verdict = GOOD, pose: bool = True, **options: object) -> np.ndarray:
    height, width = bgr.shape[:2]
    landmarks = person(width, height) if pose else None
    return annotate(bgr, landmarks, verdict, pi_id="pi1", when=WHEN, **options)  # type: ignore[arg-type]


def test_the_camera_picture_stays_as_it_is() -> None:
    original = picture(640, 480)
    before = original.copy()
    for mode in drawing.PICTURES:
        draw(original, pictures=mode)
    assert np.array_equal(original, before)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("mode", drawing.PICTURES)
@pytest.mark.parametrize("verdict", [GOOD, BAD, NOBODY, PARTIAL, SUNK, MOVED], ids=lambda v: v.reason or v.status)
def test_every_size_is_annotated_and_at_most_max_width_wide(
    size: tuple[int, int], mode: str, verdict: Verdict
) -> None:
    width, height = size
    result = draw(picture(width, height), verdict, pose=verdict is not NOBODY, pictures=mode)
    assert result.dtype == np.uint8
    assert result.shape[1] == min(width, 960)
    assert result.shape[0] == pytest.approx(height * min(1, 960 / width), abs=1)


@pytest.mark.parametrize("ground", GROUNDS, ids=str)
@pytest.mark.parametrize("size", [(64, 64), (320, 240), (1920, 1080)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("verdict", [GOOD, BAD, NOBODY], ids=lambda v: v.status)
def test_the_label_stands_out_in_its_colour_on_any_ground(
    verdict: Verdict, size: tuple[int, int], ground: str
) -> None:
    result = draw(picture(*size, ground), verdict, pose=False)
    height, width = result.shape[:2]
    corner = result[height // 4 :, : width * 3 // 4].astype(int)
    colour = np.array(drawing.STATUS_COLOURS[verdict.status])
    assert (np.abs(corner - colour).max(axis=2) < 60).sum() >= 4
    plate = result[height - 2, 1].astype(int)
    assert plate.max() < 90  # dark behind the text, whatever was there


@pytest.mark.parametrize("width", [48, 64, 100, 200, 640], ids=str)
def test_the_panel_fits_into_the_width(width: int) -> None:
    verdict = Verdict("Unknown", "partial_landmarks", None, None, "", "upright")
    height = 200
    blank = np.full((height, width, 3), 255, np.uint8)
    result = annotate(blank, None, verdict, pi_id="camera-of-the-long-corridor-17", when=WHEN)
    text = np.argwhere(result.max(axis=2) > 180)
    panel = np.argwhere(result.max(axis=2) < 90)
    right = panel[:, 1].max()
    inside = text[(text[:, 0] > panel[:, 0].min()) & (text[:, 1] <= right)]
    assert len(inside) > 0
    assert inside[:, 1].max() < min(right + 1, width)


def test_both_angles_are_written_beside_their_lines() -> None:
    plain = draw(np.zeros((540, 960, 3), np.uint8), Verdict("Good", "", None, None, "", "upright"))
    measured = draw(np.zeros((540, 960, 3), np.uint8), GOOD)
    changed = np.abs(measured.astype(int) - plain.astype(int)).max(axis=2) > 30
    neck_row, body_row = int(0.29 * 540), int(0.51 * 540)
    for row in (neck_row, body_row):
        beside = changed[row - 12 : row + 12, 540:700]
        assert beside.sum() > 40


def test_the_measured_lines_have_the_colour_of_their_own_verdict() -> None:
    bent_neck = Verdict("Bad", "neck", 48.0, 3.0, "left", "upright")
    result = draw(np.zeros((540, 960, 3), np.uint8), bent_neck).astype(int)
    neck = result[int(0.29 * 540), int(0.52 * 960) - 2 : int(0.52 * 960) + 3]
    body = result[int(0.51 * 540), int(0.54 * 960) - 2 : int(0.54 * 960) + 3]
    assert np.abs(neck - drawing.STATUS_COLOURS["Bad"]).max(axis=1).min() < 40
    assert np.abs(body - drawing.STATUS_COLOURS["Good"]).max(axis=1).min() < 40


def test_a_lean_back_is_told_from_a_lean_forward() -> None:
    blank = np.zeros((540, 960, 3), np.uint8)
    forward = draw(blank, Verdict("Good", "", 12.0, 5.0, "left", "upright"))
    back = draw(blank, Verdict("Good", "", 12.0, -5.0, "left", "upright"))
    assert not np.array_equal(forward, back)


def test_the_time_is_drawn_in_utc() -> None:
    blank = np.zeros((540, 960, 3), np.uint8)
    elsewhere = WHEN.astimezone(timezone(timedelta(hours=9)))
    here = annotate(blank, None, NOBODY, pi_id="pi1", when=WHEN)
    there = annotate(blank, None, NOBODY, pi_id="pi1", when=elsewhere)
    later = annotate(blank, None, NOBODY, pi_id="pi1", when=WHEN + timedelta(hours=1))
    assert np.array_equal(here, there)
    assert not np.array_equal(here, later)


def test_landmarks_that_were_not_seen_are_not_drawn() -> None:
    blank = np.zeros((540, 960, 3), np.uint8)
    guessed = annotate(blank, person(960, 540, visibility=0.3), PARTIAL, pi_id="pi1", when=WHEN)
    assert guessed[: 540 // 2].max() == 0


def test_skeleton_shows_no_pixel_of_the_camera() -> None:
    one = draw(picture(640, 480, "busy"), BAD, pictures="skeleton")
    other = draw(picture(640, 480, "white"), BAD, pictures="skeleton")
    assert np.array_equal(one, other)


def test_an_unknown_mode_is_refused_instead_of_showing_the_photo() -> None:
    with pytest.raises(ValueError, match=r"'blured'.*photo, blurred_face, skeleton"):
        draw(picture(64, 64), pictures="blured")


def test_landmarks_far_outside_the_picture_do_no_harm() -> None:
    landmarks = person(320, 240)
    landmarks.points[13:17, :2] = ((1e12, -1e12), (np.inf, 0), (np.nan, np.nan), (-500, 900))
    for mode in drawing.PICTURES:
        result = annotate(picture(320, 240), landmarks, GOOD, pi_id="pi1", when=WHEN, pictures=mode)
        assert result.shape == (240, 320, 3)


def test_a_stream_name_that_the_font_lacks_is_replaced_not_fatal() -> None:
    result = annotate(picture(320, 240), None, NOBODY, pi_id="käfer-\N{BEETLE}", when=WHEN)
    assert result.shape == (240, 320, 3)


def test_a_front_view_shows_the_shoulder_line_and_the_head_over_it_in_the_verdicts_colour() -> None:
    def stem(verdict: Verdict) -> list[int]:
        drawn = draw(picture(640, 480, "black"), verdict, pictures="skeleton")
        return list(drawn[140, 324])  # half-way from the shoulders to the head

    bad, good = drawing.STATUS_COLOURS["Bad"], drawing.STATUS_COLOURS["Good"]
    assert stem(SUNK) == pytest.approx(bad, abs=40)
    assert stem(replace(SUNK, status="Good", reason="")) == pytest.approx(good, abs=40)


def test_the_panel_says_what_can_be_done_about_an_unknown() -> None:
    advised = draw(picture(640, 480, "black"), MOVED, pose=False)
    plain = draw(picture(640, 480, "black"), replace(MOVED, reason="undecodable"), pose=False)
    lit = [int((image.max(axis=2) > 200).any(axis=1).sum()) for image in (advised, plain)]
    assert lit[0] > lit[1] + 5, "one line of text more"
