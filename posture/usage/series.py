"""Series as Prometheus returns them, and how those of one instance become one. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean


@dataclass(frozen=True)
class Series:
    """The samples of one series, oldest first.

    Args:
        times: of the scrapes, in seconds since the epoch.
        values: one for each time.
        instance: its label of that name.
        gpu: the labels that tell its GPU from others of the same instance.
    """

    times: tuple[float, ...]
    values: tuple[float, ...]
    instance: str = ""
    gpu: tuple[tuple[str, str], ...] = ()

    @property
    def newest_at(self) -> float:
        """Time of the newest sample, in seconds since the epoch."""
        return self.times[-1]

    @property
    def changed_at(self) -> float:
        """Time since which the series has had its newest value, as far back as its samples go."""
        since = self.times[-1]
        for at, value in zip(reversed(self.times), reversed(self.values), strict=True):
            if value != self.values[-1]:
                break
            since = at
        return since

    def scaled(self, factor: float) -> Series:
        """Return it with each value multiplied."""
        return replace(self, values=tuple(value * factor for value in self.values))


SeriesByInstance = Mapping[str, Sequence[Series]]


def merged(series: Sequence[Series]) -> list[Series]:
    """Return one series for each GPU: exporters begin another one whenever somebody else uses it.

    Of two values of one scrape, the larger one counts.
    """
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], dict[float, float]] = {}
    for one in series:
        of_gpu = samples.setdefault((one.instance, one.gpu), {})
        for at, value in zip(one.times, one.values, strict=True):
            of_gpu[at] = max(value, of_gpu.get(at, value))
    return [
        Series(tuple(times), tuple(of_gpu[at] for at in times), instance, gpu)
        for (instance, gpu), of_gpu in samples.items()
        for times in [sorted(of_gpu)]
    ]


COMBINED: Mapping[str, Callable[[Sequence[float]], float]] = {"max": max, "avg": fmean, "sum": math.fsum}
"""What ``several`` of a signal may be, beside refusing them."""


def combined(series: Sequence[Series], several: str, max_age_s: float) -> Series:
    """Return one series for all GPUs of a node.

    At each scrape of any of them the newest value of each counts, as long as it is not stale. A value that is no
    percentage is passed on as it is: beside others it would vanish in their average.

    Args:
        series: in percent, one for each GPU; at least one.
        several: a key of :data:`COMBINED`.
        max_age_s: a value that is older is stale, seconds.
    """
    times = sorted({at for one in series for at in one.times})
    values = []
    for now in times:
        newest = [(one, bisect_right(one.times, now) - 1) for one in series]
        fresh = [one.values[at] for one, at in newest if at >= 0 and now - one.times[at] <= max_age_s]
        invalid = [value for value in fresh if not is_percentage(value)]
        values.append(invalid[0] if invalid else COMBINED[several](fresh))
    return Series(tuple(times), tuple(values), series[0].instance)


def is_percentage(value: float) -> bool:
    """Say whether it is a number from 0 to 100."""
    return math.isfinite(value) and 0 <= value <= 100
