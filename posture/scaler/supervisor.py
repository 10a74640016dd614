"""Keeps exactly one balancer running: started, watched, started again with growing pauses, stopped with us.

It runs as one task, which alone holds the process: there is never a second one. (That one balancer acts among
several machines is the business of its Lease.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from posture.system.backoff import Backoff
from posture.system.children import Child

LOOK_S = 0.1
"""How often the process is polled: not every system signals the end of a process."""

_log = logging.getLogger(__name__)


class Supervisor:
    """Watches over the balancer.

    Args:
        start: starts it. Called in the thread of the event loop, which must be the main thread: a child goes with
            the thread that has made it.
        pause_max_s: the longest pause before it is started again, seconds.
        pause_s: the first pause; each further one is double.
        healthy_s: one that has run for so long ended for another reason than the one before: pauses begin anew.
    """

    def __init__(
        self, start: Callable[[], Child], pause_max_s: float, pause_s: float = 1.0, healthy_s: float = 60.0
    ) -> None:
        self._start = start
        self._backoff = Backoff(min(pause_s, pause_max_s), pause_max_s)
        self._healthy_s = healthy_s
        self._stopping = asyncio.Event()
        self.child: Child | None = None
        self.restarts = 0

    @property
    def running(self) -> bool:
        """Whether the balancer runs now."""
        return self.child is not None and self.child.status is None

    async def run(self) -> None:
        """Keep it running until :meth:`stop`."""
        while not self._stopping.is_set():
            started = time.monotonic()
            ended = await self._run_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - started >= self._healthy_s:
                self._backoff.reset()
            pause_s = self._backoff.next_s()
            _log.warning("the balancer %s; it is started again in %g s", ended, pause_s)
            if await self._stopping_within(pause_s):
                return
            self.restarts += 1

    async def _run_once(self) -> str:
        """Run it until it ends or a stop is requested; return how it ended."""
        try:
            self.child = self._start()
        except OSError as error:  # no memory, too many processes
            return f"can't be started: {error}"
        _log.info("the balancer runs, process %d", self.child.pid)
        while self.running and not await self._stopping_within(LOOK_S):
            pass
        return f"has ended with status {self.child.status}"

    async def stop(self, seconds: float) -> None:
        """End it: SIGTERM, and SIGKILL if it is still there after so many seconds; it isn't started again."""
        self._stopping.set()
        if self.child is None:
            return
        self.child.ask_to_stop()
        until = time.monotonic() + seconds
        while self.running and time.monotonic() < until:
            await asyncio.sleep(LOOK_S / 10)
        if self.running:
            _log.warning("the balancer is killed: it has not ended within %g s", seconds)
        self.child.stop(0)

    async def _stopping_within(self, seconds: float) -> bool:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()
