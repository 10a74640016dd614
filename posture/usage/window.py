"""Each node's average usage over a window of several samples. Pure: the caller samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from posture.settings import table
from posture.usage.readings import Reading, UsageUnknownError

NEEDED_SHARE = 2 / 3
"""Share of the scrapes due in a window that must be there for an average."""

Scrapes = dict[float, float]
"""Time of a scrape -> its value."""


@dataclass(frozen=True)
class Average:
    """A node's usage over a window.

    Args:
        signals: signal -> percent, 0 to 100: the mean of its distinct scrapes.
        scrapes: how many distinct scrapes that are; of the signal with the fewest.
        since: time of the first one of any signal in seconds since the epoch, by the clock of the readings.
        until: time of the last one that all signals have reached.
    """

    signals: Mapping[str, float]
    scrapes: int
    since: float
    until: float

    @property
    def value(self) -> float:
        """Percent, 0 to 100: the average of the scarcest resource."""
        return max(self.signals.values())


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
        self._since: dict[tuple[str, str], float] = {}
        """By node and signal."""
        self._scrapes: dict[str, dict[str, Scrapes]] = {}
        self._problems: dict[str, UsageUnknownError] = {}

    def add(self, sampled: Mapping[str, Reading | UsageUnknownError]) -> None:
        """Add what was sampled: node -> its usage, or why that is unknown."""
        for node, found in sampled.items():
            signals = self._scrapes.setdefault(node, {})
            if isinstance(found, UsageUnknownError):
                self._problems[node] = found
                continue
            if signals.keys() - found.of_signal.keys():  # GPU_QUERIES was edited
                signals.clear()
            for name, one in found.of_signal.items():
                since = self._since.setdefault((node, name), one.at)
                signals.setdefault(name, {}).update({at: value for at, value in one.scrapes if at >= since})

    def values(self) -> dict[str, dict[str, list[float]]]:
        """Return node -> signal -> what each of its distinct scrapes shows, in percent."""
        return {
            node: {name: list(scrapes.values()) for name, scrapes in signals.items()}
            for node, signals in self._scrapes.items()
        }

    def averages(self, settles_s: Callable[[str], float] | None = None) -> dict[str, Average | UsageUnknownError]:
        """Return each node's average, or why it has none.

        Args:
            settles_s: node -> the time from which its scrapes no longer show the effect of our own changes (rule
                R5), in seconds since the epoch; earlier scrapes are left out where enough later ones remain.
        """
        found = {}
        for node, signals in self._scrapes.items():
            found[node] = self._average(node, signals)
            if settles_s is not None:
                since = settles_s(node)
                later = {
                    name: {at: value for at, value in scrapes.items() if at >= since}
                    for name, scrapes in signals.items()
                }
                settled = self._average(node, later)
                found[node] = settled if isinstance(settled, Average) else found[node]
        return found

    def _average(self, node: str, signals: Mapping[str, Scrapes]) -> Average | UsageUnknownError:
        needed = math.ceil(self._due * NEEDED_SHARE - 1e-9)
        fewest = min((len(scrapes) for scrapes in signals.values()), default=0)
        if fewest >= needed:
            return Average(
                {name: sum(scrapes.values()) / len(scrapes) for name, scrapes in signals.items()},
                fewest,
                min(min(scrapes) for scrapes in signals.values()),
                min(max(scrapes) for scrapes in signals.values()),
            )
        problem = self._problems.get(node)
        reason = (
            f"{fewest} scrapes in {self._length_s:g} s; accepted: {needed} of the {self._due} that one each "
            f"{self._interval_s:g} s should give"
        )
        if problem is None:
            return UsageUnknownError(node, None, reason)
        return UsageUnknownError(node, problem.value, f"{problem.reason} ({reason})")
