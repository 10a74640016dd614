"""Each node's average usage over a window of several samples. Pure: the caller samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from posture.settings import table
from posture.usage.readings import Reading, UsageUnknownError

NEEDED_SHARE = 2 / 3
"""Share of the scrapes due in a window that must be there for an average."""


@dataclass(frozen=True)
class Average:
    """A node's usage over a window.

    Args:
        value: percent, 0 to 100: the mean of the distinct scrapes.
        scrapes: how many distinct scrapes that are.
        since: time of the first one in seconds since the epoch, by the clock of the readings.
        until: time of the last one.
    """

    value: float
    scrapes: int
    since: float
    until: float


class Window:
    """The distinct scrapes of each node over a window; the caller adds a sample every few seconds.

    A node's window begins with the newest scrape of its first sample; earlier scrapes are left out.

    Args:
        settings: for the scrape interval.
        length_s: the window's length in seconds; with the scrape interval it says how many scrapes are due.
    """

    def __init__(self, settings: table.Prometheus, length_s: float) -> None:
        self._length_s = length_s
        self._interval_s = settings.scrape_interval_s
        self._due = max(1, int(length_s / settings.scrape_interval_s + 1e-9))
        self._since: dict[str, float] = {}
        self._scrapes: dict[str, dict[float, float]] = {}
        self._problems: dict[str, UsageUnknownError] = {}

    def add(self, sampled: Mapping[str, Reading | UsageUnknownError]) -> None:
        """Add what one query returned: node -> its usage, or why that is unknown."""
        for node, found in sampled.items():
            scrapes = self._scrapes.setdefault(node, {})
            if isinstance(found, UsageUnknownError):
                self._problems[node] = found
                continue
            since = self._since.setdefault(node, found.at)
            scrapes.update({at: value for at, value in found.scrapes if at >= since})

    def averages(self, settles_s: Callable[[str], float] | None = None) -> dict[str, Average | UsageUnknownError]:
        """Return each node's average, or why it has none.

        Args:
            settles_s: node -> the time from which its scrapes no longer show the effect of our own changes (rule
                R5), in seconds since the epoch; earlier scrapes are left out where enough later ones remain.
        """
        found = {}
        for node, scrapes in self._scrapes.items():
            found[node] = self._average(node, scrapes)
            if settles_s is not None:
                since = settles_s(node)
                settled = self._average(node, {at: value for at, value in scrapes.items() if at >= since})
                found[node] = settled if isinstance(settled, Average) else found[node]
        return found

    def _average(self, node: str, scrapes: Mapping[float, float]) -> Average | UsageUnknownError:
        needed = math.ceil(self._due * NEEDED_SHARE - 1e-9)
        if len(scrapes) >= needed:
            return Average(sum(scrapes.values()) / len(scrapes), len(scrapes), min(scrapes), max(scrapes))
        problem = self._problems.get(node)
        reason = (
            f"{len(scrapes)} scrapes in {self._length_s:g} s; accepted: {needed} of the {self._due} that one each "
            f"{self._interval_s:g} s should give"
        )
        if problem is None:
            return UsageUnknownError(node, None, reason)
        return UsageUnknownError(node, problem.value, f"{problem.reason} ({reason})")
