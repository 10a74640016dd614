"""What a metric's values have to be multiplied by to be percent: told by the setting, or by the name, or not known.

A ratio from 0 to 1 read as percent would make a busy GPU an idle one, and so would a load from 0 to 1000 while it
is small. What may be either is refused until the setting says which.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from posture.settings.table import GpuQuery

RATIO = re.compile(r"_ratio$|^DCGM_FI_PROF_")
"""Names of ratios from 0 to 1: Prometheus' convention, and DCGM's profiling metrics."""
PERCENT = re.compile(r"percent|pct|^DCGM_FI_DEV_", re.IGNORECASE)
FAR_ABOVE = 200.0
"""No percentage, not even one that is a little off, is above this."""


class Scales:
    """What has been seen of each metric: once it has shown that it is no percentage, it stays so."""

    def __init__(self) -> None:
        self._larger: set[str] = set()
        """Metrics that have had a value above 1: they are no ratios."""
        self._far_above: set[str] = set()

    def factor(self, query: GpuQuery) -> float:
        """Return what a value is multiplied by."""
        return query.scale or (100.0 if RATIO.search(query.metric) else 1.0)

    def doubt(self, node: str, query: GpuQuery, values: Iterable[float]) -> str:
        """Return why the values may be no percentages; empty if they are, or their scale is known.

        Args:
            node: whose they are.
            query: where they are read.
            values: those within the query's range.
        """
        if query.scale or RATIO.search(query.metric):
            return ""
        seen = [value for value in values if math.isfinite(value)]
        if any(value > FAR_ABOVE for value in seen):
            self._far_above.add(query.metric)
        if any(1 < value <= FAR_ABOVE for value in seen):
            self._larger.add(query.metric)
        setting = f"GPU_QUERIES.{node}.scale"
        if query.metric in self._far_above:
            return f"was above {FAR_ABOVE:g} before; accepted: percent, or {setting}: 0.1 for a load of 0 to 1000"
        fraction = any(0 < value < 1 for value in seen) and all(value <= 1 for value in seen)
        if fraction and query.metric not in self._larger and not PERCENT.search(query.metric):
            return f"may be a ratio from 0 to 1; accepted: {setting}: 100 if it is one, 1 if it is percent"
        return ""
