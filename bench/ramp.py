"""How many streams a machine carries: the search for the number, and what counts as carried. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

GROWTH = 1.3
"""From a number that is carried to the next one that is tried."""
HORIZON_S = 60.0
"""A delay that grows so fast that it would pass the limit within this time is not carried, either."""


@dataclass(frozen=True)
class Found:
    """Where the search has ended."""

    carried: int
    """The most streams that were carried; 0: not even one."""
    refused: int | None
    """The fewest that were not; None: the end of the range was reached first."""
    finished: bool
    """Whether there was time to try all between the two."""

    @property
    def is_exact(self) -> bool:
        """Whether one stream more is known not to be carried; else more may be."""
        return self.finished and self.refused is not None


def search(carries: Callable[[int], bool], first: int, most: int, out_of_time: Callable[[], bool]) -> Found:
    """Return the most streams that are carried: a ramp up or down from a guess, then halves of what is left.

    Args:
        carries: tries a number of streams, 1 or more.
        first: a guess.
        most: no more are tried.
        out_of_time: asked before each trial but the first.
    """
    carried, refused, number = 0, most + 1, min(max(first, 1), most)
    while True:
        if carries(number):
            carried = number
        else:
            refused = number
        if refused - carried <= 1 or out_of_time():
            known = refused if refused <= most else None
            return Found(carried, known, refused - carried <= 1)
        if refused > most:
            number = min(most, max(carried + 1, round(carried * GROWTH)))
        elif not carried:
            number = max(1, int(refused / GROWTH))
        else:
            number = (carried + refused) // 2


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def growth(frames: Sequence[tuple[float, float]]) -> float:
    """Return how fast the delay grows, seconds a second: from the first third of the frames to the last.

    Args:
        frames: when each was due, and its delay, in seconds.
    """
    ordered = sorted(frames)
    third = len(ordered) // 3
    if not third:
        return 0.0
    (start, early), (end, late) = (
        (statistics.median(due for due, _ in part), statistics.median(delay for _, delay in part))
        for part in (ordered[:third], ordered[-third:])
    )
    return (late - early) / (end - start) if end > start else 0.0


def why_not_carried(frames: Sequence[tuple[float, float]], limit_s: float) -> str:
    """Return why these frames were not carried; empty: they were.

    Args:
        frames: when each was due, and its delay, in seconds; infinity for one that never came.
        limit_s: for the delay of 99 % of them.
    """
    p99_s = percentile([delay for _, delay in frames], 0.99)
    if p99_s > limit_s:
        return f"p99 {p99_s:.2f} s"
    ahead_s = growth(frames) * HORIZON_S
    if ahead_s > limit_s:
        return f"the delay grows by {ahead_s:.1f} s a minute"
    return ""
