"""Live or backlog, whatever the clocks say, and whatever becomes of them: the time here is simulated."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from posture.verdict.backlog import Lateness

DAY_S = 86_400.0
RIGHT_AGAIN_S = 60.0
RATES = [pytest.param(0.1, id="10-s-apart"), pytest.param(1.0, id="1-fps"), pytest.param(6.0, id="6-fps")]


class Stream:
    """A camera and a node with a clock each.

    Args:
        fps: frames a second.
    """

    def __init__(self, fps: float, seed: int = 5) -> None:
        self.now = 1_000_000.0
        self.camera_off_s = self.node_off_s = 0.0
        self.drift = 0.0
        self._fps = fps
        self._lateness = Lateness(5.0)
        self._chance = random.Random(seed)

    def frame(self, age_s: float = 0.1) -> bool:
        """One frame, which took so long to come."""
        captured = self.now - age_s + self.camera_off_s + self.drift * self.now
        return self._lateness.is_live("boot", captured, self.now + self.node_off_s)

    def live(self, seconds: float) -> Iterator[tuple[float, bool]]:
        """Steady frames, with the jitter of a network: how long after the first one, and whether it was live."""
        began = self.now
        while self.now - began < seconds:
            yield self.now - began, self.frame(0.1 + self._chance.random() * 0.1)
            self.now += 1 / self._fps

    def runs_well(self) -> bool:
        return all(live for after, live in self.live(max(70.0, 20 / self._fps)) if after > RIGHT_AGAIN_S)


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


@pytest.mark.parametrize("fps", [5.0, 15.0])
@pytest.mark.parametrize("away_s", [20.0, 900.0])
def test_a_backlog_in_mid_stream_is_not_live_and_what_comes_after_it_is(fps: float, away_s: float) -> None:
    stream = Stream(fps)
    assert stream.runs_well()
    # the analyzer is away; then frames come at twice the rate, until it has caught up
    age, wrong = away_s, 0
    stream.now += away_s
    while age > 6:
        wrong += stream.frame(age)
        stream.now += 0.5 / fps
        age -= 0.5 / fps
    assert wrong == 0
    assert stream.runs_well()


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("step_s", [-7200.0, -60.0, -7.0, -1.0, 1.0, 7.0, 60.0, 3600.0, 1e9])
@pytest.mark.parametrize("clock", ["camera_off_s", "node_off_s"])
def test_frames_are_live_again_within_a_minute_after_a_clock_was_set(clock: str, step_s: float, fps: float) -> None:
    stream = Stream(fps)
    assert stream.runs_well()
    setattr(stream, clock, step_s)
    assert stream.runs_well()
    setattr(stream, clock, 0.0)  # and put right again
    assert stream.runs_well()


@pytest.mark.parametrize("ahead_s", [1.0, 3600.0, 1e9, -3600.0])
def test_one_frame_of_another_time_silences_nothing(ahead_s: float) -> None:
    stream = Stream(5.0)
    assert stream.runs_well()
    assert not stream.frame(0.1 - ahead_s)
    stream.now += 0.2
    assert all(live for after, live in stream.live(90) if after > 2.5)


@pytest.mark.parametrize("drift", [2e-4, -2e-4, 5e-5])
def test_a_clock_that_runs_fast_or_slow_for_days_silences_nothing(drift: float) -> None:
    stream = Stream(0.1)
    stream.drift = drift
    told = [live for after, live in stream.live(2 * DAY_S) if after > RIGHT_AGAIN_S]
    assert told.count(False) <= 0.01 * len(told)


def test_boots_without_end_are_not_remembered_and_the_cameras_own_goes_on() -> None:
    stream = Stream(5.0)
    lateness = stream._lateness
    lives = [
        stream.frame() or bool(lateness.is_live(f"stranger-{n}-{after}", 0.0, stream.now))
        for after, _ in stream.live(20)
        for n in range(3)
    ]
    assert all(lives[-100:])
    assert len(lateness._boots) < 20


def test_frames_without_a_time_are_live() -> None:
    assert Lateness(5.0).is_live("", None, 1.0)
