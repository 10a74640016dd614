"""What the streams say that they run on, read from the broker beside the loop: nothing waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from posture.errors import UserError
from posture.runtime import Stop
from posture.settings.table import Mqtt
from posture.wire import statuses

log = logging.getLogger(__name__)


class Delegates:
    """The streams' delegates as they were at the last reading that succeeded.

    Args:
        settings: the broker.
        stop: ends a reading.
    """

    def __init__(self, settings: Mqtt, stop: Stop) -> None:
        self._settings = settings
        self._stop = stop
        self._reading: threading.Thread | None = None
        self._found: Mapping[str, str] = {}
        self._gpu_missing: frozenset[str] = frozenset()
        self._problem: str | None = None

    @property
    def found(self) -> Mapping[str, str]:
        """Stream -> ``cpu`` or ``gpu``, of those that are online and have said so."""
        return self._found

    @property
    def gpu_missing(self) -> frozenset[str]:
        """The streams that are online, were told to use the GPU, and use the CPU."""
        return self._gpu_missing

    @property
    def problem(self) -> str:
        """Why the last reading failed; empty if it didn't."""
        return self._problem or ""

    def begin(self) -> None:
        """Read in the background, unless a reading is under way."""
        if self._reading is None or not self._reading.is_alive():
            self._reading = threading.Thread(target=self._read, name="delegates", daemon=True)
            self._reading.start()

    def wait(self, timeout_s: float) -> None:
        """Wait for the reading that is under way.

        Args:
            timeout_s: at most so long.
        """
        if self._reading is not None:
            self._reading.join(timeout_s)

    def _read(self) -> None:
        try:
            found = statuses.read_all(self._settings, self._settings.protocol, self._stop)
        except (OSError, UserError) as error:
            self._note(f"broker {self._settings.url}: {error}")
            return
        online = {stream: one for stream, one in found.items() if one.online}
        self._found = {stream: one.delegate for stream, one in online.items() if one.delegate}
        self._gpu_missing = frozenset(stream for stream, one in online.items() if one.gpu_missing)
        self._note("")

    def _note(self, problem: str) -> None:
        if problem != self._problem:
            if problem:
                log.info("what the streams run on, CPU or GPU, is not known: %s", problem)
            elif self._problem:
                log.info("what the streams run on is known again")
        self._problem = problem
