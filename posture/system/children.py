"""Child processes that a script keeps by handle, and that end with it unless they are meant to stay."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
LOG_TAIL_LINES = 5

BOUND = f"""\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, {int(signal.SIGKILL)})
for number in signal.SIGPIPE, signal.SIGXFSZ:  # Python ignores them, which a program would inherit
    signal.signal(number, signal.SIG_DFL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""A launcher: it asks the kernel to kill it when its parent dies, then executes the program in its own place. A
``preexec_fn`` could do the same without the launcher, but is not safe in a process with several threads."""


class Child:
    """A child process. Standard error goes to ``<name>.log``, standard output to ``<name>.out``.

    Start it from a thread that lives as long as the child shall: the kernel kills the child when that thread ends.

    Args:
        name: for messages and files.
        command: the program and its arguments.
        folder: for those files; None: the child inherits our standard output and error.
        environ: the child's environment; None: ours.
        cwd: its working directory.
        stays: the child outlives us.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path | None,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        *,
        stays: bool = False,
    ) -> None:
        self.name = name
        with contextlib.ExitStack() as files:
            log = output = None
            if folder is not None:
                self.log = folder / f"{name}.log"
                self.output = folder / f"{name}.out"
                log = files.enter_context(self.log.open("ab"))
                output = files.enter_context(self.output.open("wb"))
            self._process = subprocess.Popen(
                command if stays else bound_to_us(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=None if environ is None else dict(environ),
                cwd=cwd,
                # Ctrl-C must reach only us: we stop the children in the right order
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs, the negative number of the signal that ended it."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Send SIGTERM if it still runs."""
        if self.status is None:
            self._process.terminate()

    def stop(self, seconds: float) -> None:
        """Send SIGTERM, wait up to ``seconds``, then send SIGKILL if it still runs."""
        self.ask_to_stop()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {self.name}: {line}" for line in lines[-LOG_TAIL_LINES:])


def bound_to_us(command: Sequence[str]) -> Sequence[str]:
    """Return the command so that the kernel ends it when we are killed; Linux only."""
    if not sys.platform.startswith("linux"):
        return command
    return [sys.executable, "-I", "-S", "-c", BOUND, str(os.getpid()), *command]
