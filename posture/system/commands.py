"""External programs, such as docker, that a script runs to the end: without a shell, with a time-out."""

from __future__ import annotations

import collections
import shlex
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from posture.errors import FailedError
from posture.runtime import Stop

SHOWN_LINES = 15
"""Lines of a failed program's output in the error message."""
POLL_S = 0.1
CANCEL_S = 15.0
"""How long a program may take to end after SIGINT, before SIGKILL."""
REST_S = 10.0
"""How long after its end the rest of its output is awaited."""


class CommandError(FailedError):
    """A program is missing, failed, or took too long. The message has its command line and last output."""


class StoppedError(FailedError):
    """The program was cancelled because the operator asked us to stop."""


def run(
    command: Sequence[str],
    timeout_s: float,
    *,
    stop: Stop | None = None,
    show: bool = False,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        timeout_s: after this time it gets SIGINT, later SIGKILL.
        stop: if requested, the program gets SIGINT at once.
        show: print its standard error as it comes, as progress.
        cwd: its working directory.

    Returns:
        Its standard output.

    Raises:
        CommandError: it can't be started, failed, or took too long.
        StoppedError: ``stop`` was requested.
    """
    shown = shlex.join(command)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            text=True,
            errors="replace",
            # the terminal's Ctrl-C must not reach it: we send SIGINT ourselves, also when only we were signalled
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"{shown}\n  can't be started: {error.strerror}") from None
    output, errors = _Reader(process.stdout), _Reader(process.stderr, show=show)
    ended = _wait(process, timeout_s, stop)
    last_words = "\n".join(f"  {line}" for line in (errors.lines() or output.lines())[-SHOWN_LINES:])
    if not ended and stop is not None and stop.requested:
        raise StoppedError(f"{shown}\n  was cancelled")
    if not ended:
        raise CommandError(f"{shown}\n  took longer than {timeout_s:g} s\n{last_words}".rstrip())
    if process.returncode != 0:
        raise CommandError(f"{shown}\n  ended with status {process.returncode}\n{last_words}".rstrip())
    return "\n".join(output.lines())


def _wait(process: subprocess.Popen[str], timeout_s: float, stop: Stop | None) -> bool:
    """Wait for the program; return False if it had to be interrupted for the time-out or the stop."""
    waited = 0.0
    while waited < timeout_s and not (stop is not None and stop.requested):
        try:
            process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            waited += POLL_S
        else:
            return True
    process.send_signal(signal.SIGINT)
    try:
        process.wait(CANCEL_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return False


class _Reader:
    """Reads a pipe in a thread of its own: a full pipe would block the program."""

    def __init__(self, pipe: IO[str] | None, *, show: bool = False) -> None:
        self._pipe, self._show = pipe, show
        self._lines: collections.deque[str] = collections.deque(maxlen=10_000)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._pipe or ():
            self._lines.append(line.rstrip("\n"))
            if self._show:
                print(f"    {self._lines[-1]}", flush=True)

    def lines(self) -> list[str]:
        """Return the lines; with a grandchild that holds the pipe open, those that have come by then."""
        self._thread.join(REST_S)
        return list(self._lines)
