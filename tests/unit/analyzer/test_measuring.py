"""The stage that measures: by the real model, or once more what it has measured of a still scene."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from posture.analyzer.delivery import Delivery
from posture.analyzer.item import Item
from posture.analyzer.measuring import Measuring
from posture.analyzer.pose import PoseEstimator
from posture.wire.frame import Identity

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models" / "pose_landmarker_full.task"
WALKING = ROOT / "samples" / "side_walk.jpg"
NOON = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
FPS = 5


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return cv2.imread(str(WALKING))


@pytest.fixture
def pose() -> Iterator[PoseEstimator]:
    with PoseEstimator(MODEL, "cpu") as estimator:
        yield estimator


def still_frames(pose: PoseEstimator, measuring: Measuring, picture: np.ndarray, count: int) -> list[Item]:
    """Frames of somebody who does not move, each with other noise, as they are measured."""
    rng = np.random.default_rng(1)
    items = []
    for number in range(count):
        noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
        taken = NOON + timedelta(seconds=number / FPS)
        item = Item(
            Delivery(b"payload", {}, taken, 0.0, packet_id=1, connection=1),
            Identity(f"frame-{number}", taken, number, "boot", "comment"),
            picture=noisy,
        )
        measuring.measure(item, pose.view(noisy))
        items.append(item)
    return items


def test_the_frames_of_a_still_scene_have_the_landmarks_of_the_one_that_was_measured_and_name_it(
    pose: PoseEstimator, picture: np.ndarray
) -> None:
    items = still_frames(pose, Measuring(pose, reuse=True, settled=lambda: True), picture, 60)
    again = [item for item in items if item.measured is not None]
    assert len(again) >= 30
    for item in again:
        assert item.measured is not None
        assert item.measured.measured is None, "never of one that has another's landmarks itself"
        assert item.landmarks is item.measured.landmarks is not None
        taken, measured = item.identity.captured_at, item.measured.identity.captured_at
        assert taken is not None
        assert measured is not None
        assert 0 < (taken - measured).total_seconds() <= 2
    last = items[-1].landmarks
    assert last is not None
    assert pose.tracked, "who was tracked before is tracked after it, without a look at everybody"


@pytest.mark.parametrize(("reuse", "settled"), [(False, True), (True, False)], ids=["off", "unsettled"])
def test_every_frame_is_measured_where_it_is_off_or_the_state_may_change(
    pose: PoseEstimator, picture: np.ndarray, reuse: bool, settled: bool
) -> None:
    items = still_frames(pose, Measuring(pose, reuse=reuse, settled=lambda: settled), picture, 20)
    assert all(item.measured is None for item in items)
    assert len({id(item.landmarks) for item in items}) == 20
