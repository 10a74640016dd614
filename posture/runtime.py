"""What all scripts share: how they are started, how they log, how they are asked to stop."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from posture import __version__
from posture.errors import FailedError, UserError

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the scripts: files are found from here, never from the working directory."""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT


def run_script(main: Callable[[Sequence[str] | None], int]) -> None:
    """Run a script's ``main`` and end the process with its exit status.

    A user's mistake becomes a message on standard error and status 2, what failed around us a message and status 1,
    never a traceback. What is printed is shown line by line, also where it goes into a pipe or a file.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        status = main(None)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = EXIT_USER_ERROR
    except FailedError as error:
        print(f"error: {error}", file=sys.stderr)
        status = EXIT_FAILED
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has left, as head does; Python must not try to flush it once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.exit(status)


def add_version_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--version``."""
    parser.add_argument("--version", action="version", version=f"Posture Farm {__version__}")


def keep_files_private() -> None:
    """Let what this process writes from now on be for its user and group alone: it is about people."""
    os.umask(0o027)


def setup_logging(debug: bool = False) -> None:
    """Log to standard error, one line an event, times in UTC."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)
    # libraries that say at INFO what only their authors need
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "hpack", "h2", "amqtt", "transitions", "absl"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class Stop:
    """SIGTERM and SIGINT as a state that can be polled, and as a socket that select() can wait for."""

    def __init__(self) -> None:
        self.requested = False
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def install(self) -> None:
        """Take SIGTERM and SIGINT from now on (main thread only)."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def request(self) -> None:
        """Ask for the stop; safe from any thread and from a signal handler."""
        self.requested = True
        self.wake()

    def wake(self) -> None:
        """Make a select() on this object return; safe from any thread."""
        # full of wake-ups already: the select() returns anyway
        with contextlib.suppress(BlockingIOError):
            self._sender.send(b"w")

    def clear_wakeups(self) -> None:
        """Swallow the wake-ups that select() has reported."""
        with contextlib.suppress(BlockingIOError):
            while self._receiver.recv(4096):
                pass

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or sooner when woken."""
        if select.select([self], [], [], seconds)[0]:
            self.clear_wakeups()

    def fileno(self) -> int:
        """Return the descriptor for select()."""
        return self._receiver.fileno()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.request()
