"""The page's feed: server-sent events with all that is known first, and then what changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from posture.dashboard import messages
from posture.dashboard.live import Live

EACH_S = 0.2
"""What changes within this time goes out together."""
QUIET_S = 15.0
"""Something is sent at least this often, so that a connection that is dead is noticed."""
MOST_READERS = 100
"""Of feeds at a time; further ones are refused."""
RETRY_MS = 1_000


class Feed:
    """All feeds of the process.

    Args:
        live: what is known.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self.readers = 0
        self._closing = False

    def close(self) -> None:
        """End all feeds."""
        self._closing = True
        self._live.wake()

    @property
    def is_full(self) -> bool:
        """Whether no further reader is taken."""
        return self.readers >= MOST_READERS

    async def events(self, about: Mapping[str, Any], still_welcome: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Yield events for ever.

        Args:
            about: what the first event says besides: who is reading, and how to send commands.
            still_welcome: False ends the feed: the session has run out, say.
        """
        self.readers += 1
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            told = _Told()
            yield messages.as_event("all", {**about, **told.news(self._live)})
            while not self._closing:
                await self._live.wait(QUIET_S)
                if self._closing:
                    return
                await asyncio.sleep(EACH_S)
                if not still_welcome():
                    yield messages.as_event("goodbye", {})
                    return
                yield messages.as_event("news", told.news(self._live))
        finally:
            self.readers -= 1


class _Told:
    """What one reader has been told."""

    def __init__(self) -> None:
        self._streams = -1
        self._sources = -1
        self._malformed = -1
        self._alert_at = 0.0

    def news(self, live: Live) -> dict[str, Any]:
        news: dict[str, Any] = {"now": time.time()}
        with live.hold():
            streams, sources = live.streams, live.sources
            if streams.version > self._streams:
                news["streams"] = messages.of_streams(streams, streams.changed_since(self._streams))
                self._streams = streams.version
            if sources.version > self._sources:
                news["sources"] = messages.of_sources(sources)
                self._sources = sources.version
            malformed = sum(streams.malformed.values())
            if malformed > self._malformed:
                news["malformed"] = messages.of_malformed(streams)
                self._malformed = malformed
            alerts = [alert for alert in streams.alerts if alert.at > self._alert_at]
            if alerts:
                news["alerts"] = messages.of_alerts(alerts)
                self._alert_at = alerts[-1].at
        return news
