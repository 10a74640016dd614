"""Programs that a script starts, holds by handle, and (unless they are to stay) never leaves behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
LOG_TAIL_LINES = 5


class Child:
    """A started program. Its output goes to files: ``<name>.log``, and ``<name>.out`` for standard output.

    Args:
        name: for messages and files.
        command: the program and its arguments.
        folder: for those files.
        environ: the program's environment; None passes ours on.
        cwd: its working directory.
        stays: it goes on when we end.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        *,
        stays: bool = False,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.output = folder / f"{name}.out"
        with self.log.open("ab") as log, self.output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=None if environ is None else dict(environ),
                cwd=cwd,
                # Ctrl-C is for us alone: children are stopped in their order
                start_new_session=True,
                preexec_fn=None if stays else _dies_with_us(),  # noqa: PLW1509 - one prctl(), no threads yet
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs; after a signal it is that signal's number, negative."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Send SIGTERM, if it still runs."""
        if self.status is None:
            self._process.terminate()

    def stop(self, seconds: float) -> None:
        """End it: SIGTERM, and SIGKILL if it is still there after so many seconds."""
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


def _dies_with_us() -> Callable[[], None] | None:
    """Return what the child runs first, so that the kernel ends it when we are killed; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec
