"""The servers that the page reads, and whether each is there. Pure: the caller passes the time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

BROKER = "broker"
DATABASE = "database"
PROMETHEUS = "prometheus"
KUBERNETES = "kubernetes"


class State(Enum):
    """Whether a source is there."""

    WAITING = "waiting"
    """It has not been asked yet."""
    UP = "up"
    DOWN = "down"
    ABSENT = "absent"
    """This farm has none, and that is no fault."""


@dataclass(frozen=True)
class Source:
    """One server.

    Attributes:
        state: whether it is there.
        why: what is wrong, or why it is absent; empty if nothing is.
        since: when this state began, in seconds since 1970.
    """

    state: State
    why: str
    since: float


class Sources:
    """What is known of each source.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, now: float) -> None:
        self.version = 0
        names = (BROKER, DATABASE, PROMETHEUS, KUBERNETES)
        self._sources = {name: Source(State.WAITING, "", now) for name in names}

    def __getitem__(self, name: str) -> Source:
        return self._sources[name]

    def items(self) -> list[tuple[str, Source]]:
        """Return name and state of each."""
        return list(self._sources.items())

    def tell(self, name: str, state: State, why: str = "", *, at: float) -> bool:
        """Say how a source is; return whether that is news.

        Args:
            name: the source.
            state: how it is.
            why: as in ``Source``.
            at: now.
        """
        before = self._sources[name]
        if (before.state, before.why) == (state, why):
            return False
        since = before.since if before.state is state else at
        self._sources[name] = Source(state, why, since)
        self.version += 1
        return True
