"""Exponential backoff: pauses between attempts, each twice as long as the one before, up to a longest one."""

from __future__ import annotations

import random


class Backoff:
    """The pauses between attempts at one thing. The caller waits, so that a stop can cut the wait short.

    Args:
        first_s: the first pause, in seconds.
        longest_s: no pause grows beyond this.
        jitter: each pause is off by up to this fraction of it, so that many clients don't retry in step.
    """

    def __init__(self, first_s: float, longest_s: float, *, jitter: float = 0.0) -> None:
        self._first_s = self.current_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter

    current_s: float
    """The pause that comes next, in seconds, without jitter."""

    def next_s(self) -> float:
        """Return the pause to make now, in seconds, and double the one after it."""
        pause_s = self.current_s
        self.current_s = min(2 * pause_s, self._longest_s)
        if self._jitter:
            pause_s *= random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - no secret
        return pause_s

    def reset(self) -> None:
        """Start again with the first pause, after an attempt that succeeded."""
        self.current_s = self._first_s
