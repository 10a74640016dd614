"""Several people in one picture, composed of the sample clip's and the reference picture's, with the real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from mediapipe.tasks.python.vision import PoseLandmarker

from posture.analyzer.people import alone
from posture.analyzer.pose import PoseEstimator
from posture.verdict.persons import Person
from posture.verdict.rule_sets import Landmarks

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models" / "pose_landmarker_full.task"
FRAMES = ROOT.parent / "shared" / "frames"


def walker(index: int, left: int, right: int) -> np.ndarray:
    """Somebody from the sample clip."""
    video = cv2.VideoCapture(str(ROOT / "samples" / "side_walk.mp4"))
    for _ in range(index + 1):
        _, frame = video.read()
    video.release()
    return frame[:, left:right]


@pytest.fixture(scope="module")
def woman() -> np.ndarray:
    return walker(60, 480, 760)


@pytest.fixture(scope="module")
def man() -> np.ndarray:
    return walker(180, 760, 960)


@pytest.fixture
def estimator() -> Iterator[PoseEstimator]:
    with PoseEstimator(MODEL, "cpu") as estimator:
        yield estimator


def beside(*pictures: np.ndarray) -> np.ndarray:
    """The pictures side by side on one floor."""
    height = max(len(picture) for picture in pictures) + 20
    scene = np.full((height, sum(picture.shape[1] for picture in pictures), 3), 120, np.uint8)
    left = 0
    for picture in pictures:
        scene[height - len(picture) : height, left : left + picture.shape[1]] = picture
        left += picture.shape[1]
    return scene


def scaled(picture: np.ndarray, by: float) -> np.ndarray:
    return np.asarray(cv2.resize(picture, None, fx=by, fy=by, interpolation=cv2.INTER_AREA))


def place(landmarks: Landmarks | None) -> float:
    assert landmarks is not None
    return float(landmarks.points[[11, 12, 23, 24], 0].mean())


@pytest.mark.parametrize("by", [0.4, 0.5])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_larger_one_is_measured_and_stays_so_while_she_is_tracked(
    estimator: PoseEstimator, woman: np.ndarray, side: str, by: float
) -> None:
    small = scaled(woman, by)
    scene = beside(small, woman) if side == "left" else beside(woman, small)
    view = estimator.view(scene)
    low, high = (small.shape[1], scene.shape[1]) if side == "left" else (0, woman.shape[1])
    for frame in range(25):  # at ten a second, so with a look for others among them
        found = estimator.detect(view, 100 * frame)
        assert low < place(found) < high
        assert found is not None
        assert not found.contested
        assert len(found.others) == 1


@pytest.mark.parametrize("by", [0.8, 1.0])
def test_two_of_nearly_the_same_size_get_no_verdict(estimator: PoseEstimator, woman: np.ndarray, by: float) -> None:
    view = estimator.view(beside(woman, scaled(woman, by)))
    for frame in range(5):
        found = estimator.detect(view, 100 * frame)
        assert found is not None
        assert found.contested


@pytest.mark.parametrize("step_ms", [100, 1667], ids=["10 a second", "0.6 a second"])
def test_who_was_measured_alone_stays_so_beside_somebody_of_the_same_size(
    estimator: PoseEstimator, woman: np.ndarray, step_ms: int
) -> None:
    empty = np.full_like(woman, 120)
    frames = [beside(woman, empty)] * 3 + [beside(woman, woman)] * (1 + 3000 // step_ms)
    for number, frame in enumerate(frames):
        found = estimator.detect(estimator.view(frame), step_ms * number)
        assert 0 < place(found) < woman.shape[1]
        assert found is not None
        assert not found.contested
    assert len(found.others) == 1


@pytest.mark.parametrize("step_ms", [100, 1667], ids=["10 a second", "0.6 a second"])
def test_measuring_never_goes_over_to_another_person_without_saying_so(
    estimator: PoseEstimator, woman: np.ndarray, step_ms: int
) -> None:
    small, empty = scaled(woman, 0.55), np.full_like(woman, 120)
    frames = [beside(woman, small)] * 5 + [beside(empty, small)] * (2 + 8000 // step_ms)
    seen = []
    for number, frame in enumerate(frames):
        found = estimator.detect(estimator.view(frame), step_ms * number)
        if found is None or found.contested:
            seen.append("nobody")
        else:
            seen.append("first" if place(found) < woman.shape[1] else "second")
    changes = [name for name, before in zip(seen, ["", *seen], strict=False) if name != before]
    assert changes == ["first", "nobody", "second"]


def test_who_joins_is_seen_at_once_if_that_is_asked_for(woman: np.ndarray) -> None:
    small = scaled(woman, 0.5)
    empty = np.full_like(small, 120)
    with PoseEstimator(MODEL, "cpu", all_in_every_frame=True) as estimator:
        for frame in range(3):
            estimator.detect(estimator.view(beside(woman, empty)), 100 * frame)
        joined = estimator.detect(estimator.view(beside(woman, small)), 300)
    assert joined is not None
    assert len(joined.others) == 1


@pytest.mark.parametrize("alone_s", [3, 14], ids=["soon", "after the model for looking has been given back"])
@pytest.mark.parametrize("by", [0.5, 0.8])
def test_who_joins_somebody_who_was_alone_is_seen_within_two_seconds(
    estimator: PoseEstimator, woman: np.ndarray, alone_s: int, by: float
) -> None:
    joining = scaled(woman, by)
    empty = np.full_like(joining, 120)
    for frame in range(5 * alone_s):
        found = estimator.detect(estimator.view(beside(woman, empty)), 200 * frame)
        assert found is not None
        assert not found.others
    seen = [
        estimator.detect(estimator.view(beside(woman, joining)), 200 * frame)
        for frame in range(5 * alone_s, 5 * alone_s + 11)
    ]
    assert any(found is not None and found.others for found in seen)


def test_from_when_on_who_joins_counts_is_a_matter_of_the_frames_times_alone(
    estimator: PoseEstimator, woman: np.ndarray
) -> None:
    small = scaled(woman, 0.5)
    alone, joined = (estimator.view(beside(woman, one)) for one in (np.full_like(small, 120), small))
    seen_ms = []
    for at_ms in range(0, 2401, 50):
        found = estimator.detect(joined if at_ms >= 1000 else alone, at_ms)
        assert found is not None
        if found.others:
            seen_ms.append(at_ms)
    assert seen_ms == [2100, 2150, 2200, 2250, 2300, 2350, 2400]


def test_a_larger_one_who_comes_is_measured_as_this_frame_shows_her(
    estimator: PoseEstimator, woman: np.ndarray
) -> None:
    small, floor = scaled(woman, 0.5), np.full_like(np.hstack([woman, woman]), 120)

    def scene(number: int) -> np.ndarray:
        """She walks on by four pixels a frame, beside the small one, who was there first."""
        walking = floor.copy()
        if number >= 10:
            left = 4 * (number - 10)
            walking[:, left : left + woman.shape[1]] = woman
        return beside(small, walking)

    for number in range(70):
        found = estimator.detect(estimator.view(scene(number)), 100 * number)
        if place(found) > small.shape[1]:
            break
    assert number > 10
    with PoseEstimator(MODEL, "cpu") as fresh:
        assert place(found) == pytest.approx(place(fresh.detect(fresh.view(scene(number)), 0)), abs=3)


def test_who_is_alone_is_the_only_one_left(estimator: PoseEstimator, woman: np.ndarray) -> None:
    scene = beside(woman, woman)
    view = estimator.view(scene)
    found = estimator.detect(view, 0)
    assert found is not None
    assert found.others
    picture = alone(scene, Person(found.others[0], 1.0))
    again = estimator.detect(estimator.view(picture), 60_000)
    assert again is not None
    assert place(again) == pytest.approx(place(found.others[0]), abs=20)
    assert again.others == ()


@pytest.mark.skipif(not FRAMES.is_dir(), reason="the evaluation pictures are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "others"), [("000000000785", 0), ("000000040083", 1), ("000000196141", 2), ("000000197388", 2)]
)
def test_in_photographs_others_are_found_too(estimator: PoseEstimator, name: str, others: int) -> None:
    picture = cv2.imread(str(FRAMES / "coco" / f"{name}.jpg"))
    assert picture is not None
    found = estimator.detect(estimator.view(picture), 0)
    assert found is not None
    assert len(found.others) >= others
    assert found.contested == (others > 0)


def test_no_look_goes_on_with_a_picture_once_the_estimator_has_finished(
    estimator: PoseEstimator, woman: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, begun, ended = PoseLandmarker.detect, [], []

    def watched(landmarker: PoseLandmarker, picture: object) -> object:
        begun.append(picture)
        found = find(landmarker, picture)
        ended.append(picture)
        return found

    monkeypatch.setattr(PoseLandmarker, "detect", watched)
    small = scaled(woman, 0.5)
    alone, joined = (estimator.view(beside(woman, one)) for one in (np.full_like(small, 120), small))
    for at_ms in range(0, 2001, 100):
        before = len(begun)
        estimator.detect(joined if at_ms >= 1000 else alone, at_ms)
        estimator.finish()
        assert len(ended) == len(begun)
    assert len(begun) > before, "the last frame is looked at"
