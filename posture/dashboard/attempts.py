"""How often somebody may try to log in. Pure: the caller passes the time."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
FORGOTTEN_S = 3600.0
MOST_REMEMBERED = 10_000


@dataclass(frozen=True)
class _Failures:
    number: int
    at: float


class Attempts:
    """Failed logins by who tried; who failed often waits, twice as long after each further failure.

    A key is whatever is to be slowed down: an address with a name, or an address alone.

    Args:
        free: so many mistakes cost nothing but a message.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait_s(self, key: str, now: float) -> float:
        """Return for how long this one may not try; 0: now.

        Args:
            key: who.
            now: seconds, by any clock.
        """
        failures = self._failures.get(key)
        if failures is None or failures.number < self._free or now - failures.at > FORGOTTEN_S:
            return 0.0
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(failures.number - self._free, 30), LONGEST_PAUSE_S)
        return max(0.0, failures.at + pause_s - now)

    def failed(self, key: str, now: float) -> None:
        """Note a failure."""
        before = self._failures.pop(key, None)
        number = before.number if before is not None and now - before.at <= FORGOTTEN_S else 0
        self._failures[key] = _Failures(number + 1, now)
        while len(self._failures) > MOST_REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget the failures of one who knows the password after all."""
        self._failures.pop(key, None)
