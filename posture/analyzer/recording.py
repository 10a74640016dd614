"""The frames of one calibration, as they are judged, while the analyzer goes on with its work."""

from __future__ import annotations

from collections.abc import Callable

from posture.errors import UserError
from posture.verdict.rule_sets import Baseline, Landmarks, calibrate

MOST_FRAMES = 2000
"""A minute at 30 frames a second, and some."""
GRACE_S = 2.0
"""After its time is over it waits so long for the frame that ends it."""


class Recording:
    """Who sits there for some seconds.

    Args:
        seconds: how long to look, from the first frame on.
        first_frame_s: how long that one may take.
        began: when it was asked for, by the monotonic clock.
        done: called once it has all frames, in the thread that adds them.
    """

    def __init__(self, seconds: float, first_frame_s: float, began: float, done: Callable[[], None]) -> None:
        self.done = done
        self._seconds, self._first_frame_s, self._began = seconds, first_frame_s, began
        self._first: float | None = None
        self._seen: list[Landmarks | None] = []

    @property
    def frames(self) -> int:
        """How many there are so far."""
        return len(self._seen)

    def add(self, landmarks: Landmarks | None, at: float) -> bool:
        """Take in a live frame that came at that time; return whether there are enough."""
        if at < self._began:
            return False
        if self._first is None:
            self._first = at
        if at - self._first > self._seconds or len(self._seen) >= MOST_FRAMES:
            return True
        self._seen.append(landmarks)
        return False

    def overdue(self, now: float) -> bool:
        """Return whether no more is to be waited for."""
        if self._first is None:
            return now - self._began > self._first_frame_s
        return now - self._first > self._seconds + GRACE_S

    def baseline(self, camera_roll_deg: float) -> Baseline:
        """Return the pose that the frames show.

        Raises:
            UserError: no frame came, or they show none; see ``rule_sets.calibrate``.
        """
        if not self._seen:
            raise UserError(f"calibration: no live frame of the camera came within {self._first_frame_s:g} s")
        return calibrate(list(self._seen), camera_roll_deg)
