"""Live or backlog, whatever the camera's clock says."""

from __future__ import annotations

import pytest

from posture.verdict.backlog import Lateness


@pytest.mark.parametrize("wrong_by_s", [0.0, 3600.0, -3600.0], ids=["right", "an-hour-ahead", "an-hour-behind"])
def test_a_backlog_is_told_from_live_frames_without_trusting_the_cameras_clock(wrong_by_s: float) -> None:
    lateness = Lateness(5.0)
    # frames of a minute, at 5 a second, are delivered 50 a second
    backlog = [lateness.is_live("boot", n / 5 + wrong_by_s, 100 + n / 50) for n in range(300)]
    assert not any(backlog)
    live = [lateness.is_live("boot", 100 + n / 5 + wrong_by_s, 140.1 + n / 5) for n in range(30)]
    assert all(live[15:])


def test_a_frame_that_comes_late_in_a_live_stream_is_no_live_frame() -> None:
    lateness = Lateness(5.0)
    live = [lateness.is_live("boot", n / 5, n / 5 + 0.1) for n in range(50)]
    assert all(live[15:])
    assert not lateness.is_live("boot", 10.0, 10.0 + 5.2)
    assert lateness.is_live("boot", 16.0, 16.3)
