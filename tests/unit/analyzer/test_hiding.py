"""``blurred_face``: no face stays, found or not, and the measured body does."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from posture.analyzer.drawing import annotate
from posture.verdict.rule_sets import Landmarks, Verdict

PICTURES = Path(__file__).resolve().parent / "pictures"
WHEN = datetime(2026, 11, 24, 5, 17, 3, tzinfo=timezone.utc)
NOBODY = Verdict("Unknown", "no_person", None, None, "", "upright")
WIDTH, HEIGHT = 640, 480
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
CHEST, HEAD, BORDER = (
    (slice(200, 290), slice(320, 345)),
    (slice(60, 150), slice(270, 350)),
    (slice(300, 400), slice(0, 90)),
)


def person(x: float = 0.5, visibility: float = 0.95) -> Landmarks:
    """Somebody facing left, at this share of the picture's width."""
    points = np.zeros((33, 3))
    points[:, :2] = (x, 0.6)
    points[:11, :2] = np.array([x - 0.03, 0.22]) + np.linspace(-0.015, 0.015, 11)[:, None]
    points[[7, 8], :2] = (x + 0.01, 0.22)
    points[[11, 12], :2] = (x + 0.03, 0.36)
    points[[23, 24], :2] = (x + 0.05, 0.66)
    points[25:, :2] = (x - 0.1, 0.85)
    points[:, 2] = visibility
    return Landmarks(points * (WIDTH, HEIGHT, 1.0), WIDTH, HEIGHT)


def beside(landmarks: Landmarks, *others: Landmarks) -> Landmarks:
    return Landmarks(landmarks.points, WIDTH, HEIGHT, others=others)


def hidden(landmarks: Landmarks | None, bgr: np.ndarray = NOISE) -> np.ndarray:
    return annotate(bgr, landmarks, NOBODY, pi_id="pi1", when=WHEN, pictures="blurred_face")


def likeness(result: np.ndarray, region: tuple[slice, slice], bgr: np.ndarray = NOISE) -> float:
    """Correlation of the picture's fine detail with what is left of it there, 1 for an untouched picture."""
    left, whole = (
        cv2.Laplacian(cv2.cvtColor(view[region], cv2.COLOR_BGR2GRAY), cv2.CV_64F).ravel() for view in (result, bgr)
    )
    return float(np.corrcoef(left, whole)[0, 1])


def test_the_body_stays_and_the_head_goes() -> None:
    result = hidden(person())
    assert likeness(result, CHEST) > 0.7  # the skeleton is drawn over it
    assert abs(likeness(result, HEAD)) < 0.2


def test_what_is_no_body_goes_whoever_may_be_there_unfound() -> None:
    result = hidden(person())
    for region in (BORDER, (slice(0, 60), slice(0, 640)), (slice(100, 300), slice(450, 640))):
        assert abs(likeness(result, region)) < 0.2


def test_the_head_of_another_one_goes_where_it_covers_the_body() -> None:
    other = person()
    other.points[:, 1] += 110  # the head is before the chest
    chest = slice(205, 235), slice(320, 345)
    assert likeness(hidden(person()), chest) > 0.6
    assert abs(likeness(hidden(beside(person(), other)), chest)) < 0.3


def test_others_do_not_keep_the_body_of_the_measured_one_from_staying() -> None:
    assert likeness(hidden(beside(person(), person(0.15))), CHEST) > 0.7


def test_others_bodies_go() -> None:
    assert abs(likeness(hidden(beside(person(), person(0.15))), (slice(200, 290), slice(90, 130)))) < 0.2


def not_a_number() -> Landmarks:
    landmarks = person()
    landmarks.points[3] = np.nan
    return landmarks


@pytest.mark.parametrize(
    "landmarks",
    [None, person(visibility=0.2), not_a_number(), beside(person(), person(0.15, visibility=0.2))],
    ids=["nobody found", "face not seen", "not a number", "another face not seen"],
)
def test_all_goes_where_a_face_may_be_anywhere(landmarks: Landmarks | None) -> None:
    for region in (CHEST, HEAD, BORDER):
        assert abs(likeness(hidden(landmarks), region)) < 0.2


def test_the_face_of_a_real_portrait_goes_and_an_arm_stays() -> None:
    bgr = cv2.imread(str(PICTURES / "astronaut.jpg"))
    assert bgr is not None
    points = np.zeros((33, 3))
    recorded = [(0.436, 0.256), *[(0.45, 0.22)] * 6, (0.52, 0.243), (0.37, 0.21), (0.45, 0.29), (0.42, 0.29)]
    points[:11, :2] = np.array(recorded) * 512
    points[[11, 12, 14], :2] = ((306, 256), (112, 240), (90, 420))
    points[[*range(13), 14], 2] = 0.95
    result = hidden(Landmarks(points, 512, 512), bgr)
    assert abs(likeness(result, (slice(60, 200), slice(160, 300)), bgr)) < 0.35
    assert np.array_equal(result[340:380, 105:112], bgr[340:380, 105:112])


@pytest.mark.parametrize("size", [(1, 1), (3000, 40), (40, 700)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_any_size_and_any_place_will_do(size: tuple[int, int]) -> None:
    far = person()
    far.points[13:17, :2] = ((1e12, -1e12), (-1e12, 5), (0, 0), (-500, 900))
    bgr = np.resize(NOISE, (size[1], size[0], 3))
    assert hidden(far, bgr).shape[1] == min(size[0], 960)
