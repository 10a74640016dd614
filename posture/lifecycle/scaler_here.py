"""The scaler on this machine: where KEDA finds it, started so that it outlives us, watched while we are there."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from posture.errors import FailedError
from posture.runtime import ROOT, Stop
from posture.settings.flags import config_arguments
from posture.settings.table import Scaler
from posture.system import recorded_processes
from posture.system.addresses import split_listen
from posture.system.backoff import Backoff
from posture.system.children import Child

NAME = "scaler"
SCRIPT = ROOT / "cpu_monitor_and_offload.py"
STOP_S = 10.0
"""A scaler stops its balancer first, which may be in the middle of a request."""
START_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
ANY_HOST = frozenset({"", "0.0.0.0", "[::]"})  # noqa: S104 - it is recognised here, not bound


def address_for(settings: Scaler, server: str) -> str:
    """Return host:port under which the cluster reaches a scaler on this machine, as far as can be told from here.

    Args:
        settings: where it listens.
        server: the API server's URL.
    """
    host, port = split_listen(settings.listen)
    if host in ANY_HOST:
        host = _our_address_towards(urlsplit(server).hostname or "")
    return f"{host}:{port}"


def _our_address_towards(host: str) -> str:
    """Return the address from which this machine would talk to a host; nothing is sent.

    From a cluster on this very machine, loopback would lead into KEDA's own pod: then it is the address towards the
    rest of the world.
    """
    for target in (host, "192.0.2.1"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            ours = str(probe.getsockname()[0])
            if not ours.startswith("127."):
                return ours
    return "127.0.0.1"


@dataclass
class LocalScaler:
    """Starts the scaler, replaces one that runs, and watches over it.

    Attributes:
        settings: where it listens.
        config: the settings' file, as the scaler is to read it; None: cluster.yaml.
        folder: for its record and its log.
        say: takes a line.
    """

    settings: Scaler
    config: Path | None
    folder: Path
    say: Callable[[str], None] = print
    child: Child | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S))
    start_at: float | None = None

    def address(self, server: str) -> str:
        """Return where KEDA finds it: as set, or as far as can be told from here.

        Args:
            server: the API server's URL.
        """
        return self.settings.address or address_for(self.settings, server)

    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, str(SCRIPT), *config_arguments(self.config)]

    def start(self, stop: Stop) -> None:
        """Start it in the place of the one that runs, if any: that one may be of an older version.

        Raises:
            FailedError: it ends, or doesn't listen.
        """
        recorded_processes.stop(NAME, self.folder, STOP_S)
        self.child = recorded_processes.start(NAME, self.command(), self.folder)
        host, port = split_listen(self.settings.listen)
        target = ("127.0.0.1" if host in ANY_HOST else host.strip("[]"), port)
        deadline = time.monotonic() + START_S
        while self.child.status is None and time.monotonic() < deadline and not stop.requested:
            try:
                socket.create_connection(target, timeout=1).close()
            except OSError:
                stop.wait(0.1)
            else:
                return
        trouble = "does not listen" if self.child.status is None else f"has ended with status {self.child.status}"
        recorded_processes.stop(NAME, self.folder, STOP_S)
        raise FailedError(f"the scaler {trouble}:\n{self.child.last_words()}")

    def watch(self) -> bool:
        """Start it again if it has ended, after a pause that grows; to be called now and then.

        Returns:
            False if somebody else has stopped or replaced it, so that it is not ours any more.
        """
        if self.child is None or self.child.status is None:
            return True
        record = recorded_processes.read(NAME, self.folder)
        if record is None or record.pid != self.child.pid or record.stopping:
            return False
        if self.start_at is None:
            pause_s = self.backoff.next_s()
            self.say(
                f"the scaler has ended with status {self.child.status}; it is started again in {pause_s:g} s"
                f" (streams go on meanwhile)\n{self.child.last_words()}"
            )
            self.start_at = time.monotonic() + pause_s
        elif time.monotonic() >= self.start_at:
            self.start_at = None
            self.child = recorded_processes.start(NAME, self.command(), self.folder)
        return True
