"""Streams whose change the API server refuses are passed over for a growing time, and hold up nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from posture.system.backoff import Backoff

FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 600.0


@dataclass
class Refusal:
    """What the API server last refused to do about a stream."""

    why: str
    again_s: float
    """When it is tried again, by the clock of :class:`Refusals`."""
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S))


class Refusals:
    """Remembers the refusals of one balancer.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refusals: dict[str, Refusal] = {}

    def note(self, stream: str, why: str) -> float:
        """Note a refusal; return for how many seconds the stream is passed over now."""
        refusal = self._refusals.setdefault(stream, Refusal(why, 0.0))
        pause_s = refusal.backoff.next_s()
        refusal.why, refusal.again_s = why, self._clock() + pause_s
        return pause_s

    def forget(self, stream: str) -> bool:
        """Note that a change was made; return whether the one before was refused."""
        return self._refusals.pop(stream, None) is not None

    def keep(self, streams: Iterable[str]) -> None:
        """Forget all other streams: they left the farm."""
        kept = set(streams)
        self._refusals = {stream: refusal for stream, refusal in self._refusals.items() if stream in kept}

    def left_s(self, stream: str) -> float:
        """Return for how many seconds more a stream is passed over, 0 if it may be tried."""
        refusal = self._refusals.get(stream)
        return 0.0 if refusal is None else max(0.0, refusal.again_s - self._clock())

    def why(self, stream: str) -> str:
        """Return what was refused last, empty if nothing was."""
        refusal = self._refusals.get(stream)
        return "" if refusal is None else refusal.why
