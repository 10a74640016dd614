"""When to connect to the broker again: pauses grow, and are forgiven only after steady service.

A connection that is accepted and soon ends is no success: with a pause that starts anew each time, whatever ends it
would be sent or asked for again at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from posture.system.backoff import Backoff

FIRST_S, LONGEST_S = 0.5, 20.0
JITTER = 0.2
STEADY_S = 60.0
"""A connection that lasts as long as this was a good one."""


class Reconnecting:
    """One program's connections to its broker.

    Args:
        clock: seconds; runs on, whatever is done to the time of day.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._backoff = Backoff(FIRST_S, LONGEST_S, jitter=JITTER)
        self._connected_at: float | None = None

    def connected(self) -> None:
        """Say that the broker has accepted a connection."""
        self._connected_at = self._clock()

    @property
    def steady(self) -> bool:
        """Say whether the connection has lasted for long enough, so that what ends it now is none of our doing."""
        return self._connected_at is not None and self._clock() - self._connected_at >= STEADY_S

    def pause_s(self) -> float:
        """Return how long to wait before the next attempt, after one that failed or a connection that was lost."""
        if self.steady:
            self._backoff.reset()
        self._connected_at = None
        return self._backoff.next_s()
