"""Stretches of time: how long somebody sat without a break, and each slouch as one event. Pure.

Seconds are digits, as ``posture.history.minutes`` explains.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

BREAK_S = 300
"""Nobody seen, or no frame, for so long is a break: five minutes, in which one has stood up and walked. What is
shorter belongs to the sitting around it."""
LEAST_BAD_S = 3
"""As long as the state waits before it is Bad (``analyzer.bad_after_s``): a glance down is no event."""
GOOD_AGAIN_S = 5
"""So many seconds of Good in a row end a Bad stretch."""
UNSEEN_S = 15
"""Likewise so many without Bad, whatever they had: as long as a state outlives its frames (``away_after_s``)."""

SOMEBODY = re.compile("[^08]+")
BAD_ALONE = re.compile("[26ae]+")
GOOD_AGAIN = re.compile(f"[159d]{{{GOOD_AGAIN_S}}}")


@dataclass(frozen=True)
class Stretch:
    """From the first to after the last second, in UTC."""

    start: datetime
    end: datetime

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return (self.end - self.start).total_seconds()


def sitting(seconds: str, start: datetime) -> list[Stretch]:
    """Return the stretches in which somebody sat without a break, in order of time."""
    spans: list[tuple[int, int]] = []
    for found in SOMEBODY.finditer(seconds):
        if spans and found.start() - spans[-1][1] < BREAK_S:
            spans[-1] = (spans[-1][0], found.end())
        else:
            spans.append(found.span())
    return [_stretch(span, start) for span in spans]


def bad(seconds: str, start: datetime) -> list[Stretch]:
    """Return the Bad stretches, in order of time: one slouch is one, however long and however the verdict flickers.

    A second is Bad if all of its verdicts are; one that has both Good and Bad neither begins nor ends a stretch.
    """
    spans: list[tuple[int, int]] = []
    for found in BAD_ALONE.finditer(seconds):
        if spans and not _over(seconds[spans[-1][1] : found.start()]):
            spans[-1] = (spans[-1][0], found.end())
        else:
            spans.append(found.span())
    return [_stretch(span, start) for span in spans if span[1] - span[0] >= LEAST_BAD_S]


def _over(between: str) -> bool:
    """Return whether what lies between two Bad seconds ends a stretch."""
    return len(between) >= UNSEEN_S or GOOD_AGAIN.search(between) is not None


def _stretch(span: tuple[int, int], start: datetime) -> Stretch:
    return Stretch(start + timedelta(seconds=span[0]), start + timedelta(seconds=span[1]))
