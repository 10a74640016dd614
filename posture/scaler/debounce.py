"""Whether the farm has room for work, debounced. Pure: the caller passes readings and time.

Active turns off only after every node was overloaded, on valid data, for longer than the stabilize window. A
clock that runs only between two valid readings decides it: any reading with room sets it to zero, an outage stops
it, and until there is any data the farm is Active (a stream that runs unbalanced beats one that doesn't run).
Turning on again takes a reading with room, which sets the clock to zero: so two turns to inactive are always more
than one window apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LEAST_VALUE = 1.0
"""The metric's value while Active is never below this: KEDA takes a ScaledJob with a metric of 0 for inactive."""


@dataclass
class Debounce:
    """The state.

    Attributes:
        threshold: points; a node is overloaded above it.
        window_s: the stabilize window, seconds.
        trusted_s: how long one reading speaks for the time after it, seconds. Of a longer gap between two readings
            only so much counts: nobody looked at the rest.
        active: the answer.
        value: the metric: the free points of all valid nodes together; of the last valid reading.
        full_s: for how long, on valid data, every node has been overloaded, seconds.
    """

    threshold: float
    window_s: float
    trusted_s: float
    active: bool = True
    value: float = LEAST_VALUE
    full_s: float = 0.0
    _valid_at: float | None = None

    def observe(self, usage: Mapping[str, float], now: float) -> bool:
        """Take a reading, and return whether the answer (Active) has changed.

        Args:
            usage: points of each node that has a valid sample; empty: no data.
            now: seconds on a clock that doesn't go back.
        """
        was_active = self.active
        if not usage:
            self._valid_at = None
            return False
        if min(usage.values()) <= self.threshold:
            self.active, self.full_s = True, 0.0
        elif self._valid_at is not None:
            self.full_s += min(max(0.0, now - self._valid_at), self.trusted_s)
            self.active = self.active and self.full_s <= self.window_s
        self._valid_at = now
        free = sum(max(0.0, 100.0 - points) for points in usage.values())
        self.value = max(free, LEAST_VALUE) if self.active else free
        return self.active != was_active
