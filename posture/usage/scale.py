"""What a metric's values have to be multiplied by to be percent: told by the setting, or by the name, or not known.

A ratio from 0 to 1 read as percent would make a busy GPU an idle one, and so would a load from 0 to 1000 while it
is small. What may be either is refused until the setting says which.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from posture.settings.signals import Signal
from posture.settings.table import GpuQuery, NodeQuery

RATIO = re.compile(r"_ratio$|^DCGM_FI_PROF_")
"""Names of ratios from 0 to 1: Prometheus' convention, and DCGM's profiling metrics."""
PERCENT = re.compile(r"percent|pct|^DCGM_FI_DEV_", re.IGNORECASE)
HUNDRED = re.compile(r"(?<![\w.])100(?![\w.])")
"""What an expression says that makes percent of ratios."""
FAR_ABOVE = 200.0
"""No percentage, not even one that is a little off, is above this."""


def named_ratio(signal: Signal) -> bool:
    """Say whether a metric's name says that it is a ratio, and nothing else says what it is."""
    return not signal.scale and RATIO.search(signal.metric) is not None


def scale_setting(node: str, query: NodeQuery, signal: Signal) -> str:
    """Return where the scale of a node's signal is set."""
    return f"GPU_QUERIES.{node}.scale" if isinstance(query, GpuQuery) else f"signals.{signal.name}.scale"


class Scales:
    """What has been seen of each signal: once it has shown that it is no percentage, it stays so."""

    def __init__(self) -> None:
        self._larger: set[str] = set()
        """Signals that have had a value above 1: they are no ratios. By metric or query."""
        self._far_above: set[str] = set()

    def factor(self, signal: Signal) -> float:
        """Return what a value is multiplied by."""
        return signal.scale or (100.0 if named_ratio(signal) else 1.0)

    def doubt(self, signal: Signal, setting: str, values: Iterable[float]) -> str:
        """Return why the values may be no percentages; empty if they are, or their scale is known.

        Args:
            signal: what is measured.
            setting: where its scale is set.
            values: those within the query's range, as they were read.
        """
        if signal.scale or named_ratio(signal):
            return ""
        source = signal.metric or signal.query
        seen = [value for value in values if math.isfinite(value)]
        if any(value > FAR_ABOVE for value in seen):
            self._far_above.add(source)
        if any(1 < value <= FAR_ABOVE for value in seen):
            self._larger.add(source)
        if source in self._far_above:
            return f"was above {FAR_ABOVE:g} before; accepted: percent, or {setting}: 0.1 for a load of 0 to 1000"
        said = PERCENT.search(signal.metric) if signal.metric else HUNDRED.search(signal.query)
        fraction = any(0 < value < 1 for value in seen) and all(value <= 1 for value in seen)
        if fraction and source not in self._larger and not said:
            return f"may be a ratio from 0 to 1; accepted: {setting}: 100 if it is one, 1 if it is percent"
        return ""
