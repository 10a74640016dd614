"""A calibration looks at live frames for its time, and waits for none for ever."""

from __future__ import annotations

import pytest

from posture.analyzer.recording import MOST_FRAMES, Recording
from posture.errors import UserError
from tests.support.skeletons import seated


def nothing() -> None:
    """Nobody waits for it."""


def test_it_takes_the_frames_of_its_time_from_the_first_one_on_and_none_from_before() -> None:
    recording = Recording(3.0, 10.0, 100.0, nothing)
    assert not recording.add(seated(yaw=90), 99.9)
    enough = [recording.add(seated(yaw=90), 105.0 + step / 10) for step in range(32)]
    assert (enough.index(True), recording.frames) == (31, 31)
    assert recording.baseline(0.0).body == pytest.approx(0, abs=2)


def test_it_waits_for_a_first_frame_and_for_a_last_one_but_not_for_ever() -> None:
    recording = Recording(3.0, 10.0, 100.0, nothing)
    assert not recording.overdue(109.0)
    assert recording.overdue(110.1)
    recording.add(None, 109.0)
    assert not recording.overdue(113.9)
    assert recording.overdue(114.1)


def test_without_a_frame_it_says_that_none_came() -> None:
    with pytest.raises(UserError, match="no live frame of the camera came within 10 s"):
        Recording(3.0, 10.0, 100.0, nothing).baseline(0.0)


def test_a_camera_that_floods_does_not_fill_the_memory() -> None:
    recording = Recording(60.0, 10.0, 0.0, nothing)
    assert recording.add(None, 1.0) is False
    assert [recording.add(None, 1.0) for _ in range(MOST_FRAMES)][-1]
    assert recording.frames == MOST_FRAMES
