"""What is known now, shared by the threads that read the sources and the pages that show it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Collection, Iterator

from posture.dashboard.sources import Sources, State
from posture.dashboard.streams import Streams


class Live:
    """The streams, and the sources. ``hold()`` it to read or change anything in it.

    Args:
        prefix: the farm's topic prefix.
    """

    def __init__(self, prefix: str) -> None:
        self.streams = Streams(prefix)
        self.sources = Sources(time.time())
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._told = False

    @contextlib.contextmanager
    def hold(self) -> Iterator[Live]:
        """Keep all other threads from it. Not to be held while anything is waited for."""
        with self._lock:
            yield self

    def take(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take in a message of the broker; from any thread."""
        with self._lock:
            self.streams.take(topic, payload, at=time.time(), retained=retained)
        self._tell()

    def expect(self, names: Collection[str]) -> None:
        """Have these streams also before any topic tells of them; from any thread."""
        with self._lock:
            news = self.streams.expect(names)
        if news:
            self._tell()

    def count_malformed(self, topic: str, why: str, *, retained: bool) -> None:
        """Count a message that the MQTT library could not read; from any thread."""
        with self._lock:
            self.streams.count_malformed(topic, why, at=time.time(), retained=retained)
        self._tell()

    def tell_source(self, name: str, state: State, why: str = "") -> bool:
        """Say how a source is, from any thread; return whether that is news."""
        with self._lock:
            news = self.sources.tell(name, state, why, at=time.time())
        if news:
            self._tell()
        return news

    def serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake from now on who waits in this event loop."""
        self._loop = loop

    async def wait(self, timeout_s: float) -> None:
        """Return when there is news, or after so many seconds."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_s)

    def _tell(self) -> None:
        # one wake-up is enough for all messages until it has been served
        if self._loop is None or self._told:
            return
        self._told = True
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        """Let all who wait in the event loop go on; from its thread."""
        self._told = False
        self._news.set()
        self._news = asyncio.Event()
