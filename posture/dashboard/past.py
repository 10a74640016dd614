"""The database: what has been, asked by the pages and looked after in between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import date
from typing import TypeVar
from zoneinfo import ZoneInfo

from posture.dashboard.live import Live
from posture.dashboard.sources import DATABASE, State
from posture.history.opening import open_history
from posture.history.questions import Day, History
from posture.settings.paths import path_of
from posture.settings.table import Database
from posture.store.base import StoreRefusedError, StoreUnavailableError

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""How often it is asked whether it is there."""
AT_A_TIME = 4
"""Questions under way; further ones wait."""
MOST_CACHED = 500
FRESH_S = 20.0
"""The day's summary of all streams is not made anew within this time."""

Answer = TypeVar("Answer")


class Past:
    """The history of all streams; opened when it is first needed, and again after it was away.

    Args:
        settings: the database.
        live: gets told whether it is there.
    """

    def __init__(self, settings: Database, live: Live) -> None:
        self._settings, self._live = settings, live
        self._history: History | None = None
        self._opening = threading.Lock()
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._summaries: dict[tuple[date, str], tuple[float, list[Day]]] = {}
        self.names: frozenset[str] = frozenset()
        """Streams that have rows, as of the last look."""

    async def ask(self, question: Callable[[History], Answer]) -> Answer:
        """Return the answer to a question.

        Raises:
            StoreUnavailableError: the database is away.
            StoreRefusedError: a person must act.
            UserError: as the question's.
        """
        async with self._slots:
            return await asyncio.to_thread(self._ask, question)

    async def day_of_all(self, day: date, zone: ZoneInfo) -> list[Day]:
        """Return the day of each stream that has rows, in natural order; up to ``FRESH_S`` old.

        Raises:
            StoreUnavailableError: the database is away.
            StoreRefusedError: a person must act.
        """
        now = asyncio.get_running_loop().time()
        made, found = self._summaries.get((day, zone.key), (-FRESH_S, []))
        if now - made >= FRESH_S:
            found = await self.ask(
                lambda history: [history.day(span.pi_id, day, zone) for span in history.streams()]
            )
            if len(self._summaries) >= MOST_CACHED:
                self._summaries.clear()
            self._summaries[day, zone.key] = (now, found)
        return found

    def forget(self) -> None:
        """Make the summaries anew: rows are gone."""
        self._summaries.clear()

    async def look_after(self) -> None:
        """See again and again whether it is there, until cancelled."""
        while True:
            with contextlib.suppress(StoreUnavailableError, StoreRefusedError):
                spans = await self.ask(lambda history: history.streams())
                self.names = frozenset(span.pi_id for span in spans)
            await asyncio.sleep(LOOK_S)

    def close(self) -> None:
        """Close the connection."""
        if self._history is not None:
            self._history.close()

    def _ask(self, question: Callable[[History], Answer]) -> Answer:
        try:
            answer = question(self._opened())
        except (StoreUnavailableError, StoreRefusedError) as error:
            if self._live.tell_source(DATABASE, State.DOWN, str(error)):
                log.warning("%s", error)
            raise
        self._live.tell_source(DATABASE, State.UP)
        return answer

    def _opened(self) -> History:
        with self._opening:
            if self._history is None:
                self._history = open_history(
                    _url(self._settings),
                    key=self._settings.supabase_key or None,
                    timeout_s=self._settings.timeout_s,
                )
            return self._history


def _url(settings: Database) -> str:
    if settings.url.startswith("sqlite:///"):
        return f"sqlite:///{path_of(settings.url.removeprefix('sqlite:///'))}"
    return settings.url
