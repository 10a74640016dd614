"""Whether a frame is live or from a backlog, without trusting any clock for long.

A frame's age by the camera's clock is off by an unknown amount, which changes when a clock is set, and creeps when
it runs fast or slow. So a frame is compared with how old frames of its boot usually are of late: it is from a
backlog if it is much older than that, or while ages fall from frame to frame, as they do while one is worked off.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque

FALLING_S, SETTLE_S, RECENT_S = 0.15, 2.0, 10.0
"""A frame is part of a backlog that is worked off if it is younger by FALLING_S, which is more than jitter, than
each frame between RECENT_S and SETTLE_S before it."""
USUAL_S = 60.0
"""What is usual is the median of so much time: half of it after a clock was set, its frames are live again."""
FEWEST_AGES, MOST_AGES = 10, 600
"""Frames that are remembered however long ago they came, and at most."""
MOST_BOOTS = 16
"""Boots remembered; strangers can make up any number of them."""


class Lateness:
    """One stream's lateness.

    Args:
        limit_s: a frame that is later than usual by this is from a backlog.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._boots: OrderedDict[str, _Ages] = OrderedDict()

    def is_live(self, boot_id: str, captured: float | None, received: float) -> bool:
        """Return whether a frame is live. Without a captured time there is no evidence: it is.

        Args:
            boot_id: the camera's boot; ages are compared within one.
            captured: seconds by the camera's clock.
            received: seconds by ours.
        """
        if captured is None:
            return True
        ages = self._boots.pop(boot_id, None) or _Ages(self._limit_s)
        self._boots[boot_id] = ages
        if len(self._boots) > MOST_BOOTS:
            self._boots.popitem(last=False)
        return ages.is_live(received - captured, received)


class _Ages:
    """How old the frames of one boot were of late, by two clocks that don't agree."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._settled_at = 0.0
        self._late = False
        self._ages: deque[tuple[float, float]] = deque()
        """When a frame came, and its age then; the latest last."""
        self._sorted: list[float] = []

    def is_live(self, age: float, now: float) -> bool:
        if self._ages and now < self._ages[-1][0]:
            self._forget_all()  # our clock was set back
        if not self._ages:
            self._settled_at = now + SETTLE_S
        falling = age < self._least_of_late(now) - FALLING_S
        self._remember(age, now)
        was_late, self._late = self._late, age > self._usual() + self._limit_s
        if was_late and self._late:  # one alone is a hiccup of the network
            self._settled_at = now + SETTLE_S
        return not falling and not self._late and now >= self._settled_at

    def _least_of_late(self, now: float) -> float:
        """Return the least age from RECENT_S to SETTLE_S ago, or that of the last frame before."""
        least = math.inf
        for came, age in reversed(self._ages):
            if now - came > RECENT_S and least < math.inf:
                break
            if now - came >= SETTLE_S:
                least = min(least, age)
        return least

    def _usual(self) -> float:
        return self._sorted[(len(self._sorted) - 1) // 2]

    def _remember(self, age: float, now: float) -> None:
        self._ages.append((now, age))
        insort(self._sorted, age)
        while len(self._ages) > MOST_AGES or (len(self._ages) > FEWEST_AGES and now - self._ages[0][0] > USUAL_S):
            _, gone = self._ages.popleft()
            del self._sorted[bisect_left(self._sorted, gone)]

    def _forget_all(self) -> None:
        self._ages.clear()
        self._sorted.clear()
