"""Whether a frame is live or from a backlog, without trusting the camera's clock.

A frame's age by the camera's clock is off by an unknown, constant amount within one boot. The smallest age seen
stands for "on time". While a backlog is worked off, ages fall from frame to frame.
"""

from __future__ import annotations

FALLING_S = 0.15
"""An age that falls by more than this is a backlog being worked off, not jitter."""
SETTLE_S = 2.0
"""Ages must not have fallen for this long before frames count as live."""


class Lateness:
    """One stream's lateness.

    Args:
        limit_s: a frame that is later than this is from a backlog.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._boot_id: str | None = None
        self._least_age = 0.0
        self._settled_at = 0.0

    def is_live(self, boot_id: str, captured: float | None, received: float) -> bool:
        """Return whether a frame is live. Without a captured time there is no evidence: it is.

        Args:
            boot_id: the camera's boot; ages are compared within one.
            captured: seconds by the camera's clock.
            received: seconds by ours.
        """
        if captured is None:
            return True
        age = received - captured
        if boot_id != self._boot_id:
            self._boot_id, self._least_age, self._settled_at = boot_id, age, received + SETTLE_S
        elif age < self._least_age - FALLING_S:
            self._least_age, self._settled_at = age, received + SETTLE_S
        return received >= self._settled_at and age <= self._least_age + self._limit_s
