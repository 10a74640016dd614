"""The column of landmarks: rows of both versions can be judged again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from posture.verdict.rule_sets import Landmarks
from posture.verdict.stored_landmarks import from_json, to_json


def somebody(*, world: bool) -> Landmarks:
    random = np.random.default_rng(1)
    points = random.uniform((0, 0, 0), (640, 480, 1), (33, 3))
    return Landmarks(points, 640, 480, random.uniform(-1, 1, (33, 3)) if world else None)


def test_a_row_holds_the_points_in_the_picture_and_in_metres() -> None:
    before = somebody(world=True)
    after = from_json(to_json(before), 640, 480)
    assert after is not None
    assert after.world is not None
    assert after.points == pytest.approx(before.points, abs=0.051)
    assert after.world == pytest.approx(before.world, abs=0.00051)
    assert (after.width, after.height) == (640, 480)


def test_a_row_of_before_the_world_points_is_still_read() -> None:
    before = somebody(world=False)
    text = json.dumps(before.points.round(1).tolist())
    after = from_json(text, 640, 480)
    assert after is not None
    assert after.world is None
    assert after.points == pytest.approx(before.points, abs=0.051)


def test_nobody_is_stored_as_nothing() -> None:
    assert to_json(None) is None
    assert from_json(None, 640, 480) is None


@pytest.mark.parametrize("text", ["[]", "[[1,2,3]]", "7"])
def test_a_text_that_holds_no_landmarks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="accepted: 33 of 3 or 6 numbers"):
        from_json(text, 640, 480)
