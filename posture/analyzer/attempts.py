"""Frames that end the process: found by what dead processes were at work on, and not opened any more.

Native code takes bytes from strangers, and where it crashes, nothing in the process can catch it: the broker gives
the frame to the next process, which crashes, too. So each process keeps a folder of its own, with a file for each
frame that it is working on. The next one finds it, and knows by the crash report whether it crashed or was
killed. Frames found so are suspects: they are opened one at a time, so that the innocent are told from the guilty.

A pod's folder may end with it, so what the broker delivers a second time is suspect, too: a process that has ended
may have opened it. What is known of such frames stands at the broker (suspects.py).
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import logging
import os
import secrets
import shutil
import threading
import time
from pathlib import Path

from posture.analyzer.delivery import Acknowledger
from posture.analyzer.suspects import Suspects

log = logging.getLogger(__name__)

CRASHED, KILLED = 3, 1
"""What it counts against a frame that its process crashed, or ended without a word. The second may well have been
somebody from outside, or a power cut."""
MOST = 2 * CRASHED
"""A frame against which so much counts is not opened any more."""
REMEMBERED_S = 7 * 86_400.0
REPORT = "crash"
"""The crash handler's report; locked for as long as its process lives."""
LIFE = "process-"
SHOWN_LINES = 12


class Attempts:
    """What one process is working on, and what became of those before it.

    Args:
        folder: made if it is not there; where it can't be written, nothing is remembered in it.
        stream: asks the broker, and tells it; None: only the folder remembers.
        topic: where the broker remembers.

    Attributes:
        alone: a suspect is open, and all that it sets going is to end with it.
    """

    def __init__(self, folder: Path, stream: Acknowledger | None = None, topic: str = "") -> None:
        self.alone = False
        self._folder = folder
        process = secrets.token_hex(8)
        self._life: Path | None = folder / f"{LIFE}{process}"
        self._found: set[str] = set()
        """Processes that have written here before this one."""
        self._elsewhere = None if stream is None else Suspects(stream, topic, process, self._found)
        self._report: int | None = None
        self._counted: dict[str, int] = {}
        self._open: set[str] = set()
        self._changed = threading.Condition()
        self._closing = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_up()
            self._life.mkdir(mode=0o700)
            self._report = os.open(self._life / REPORT, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._report, fcntl.LOCK_EX)
            faulthandler.enable(self._report)
        except OSError as error:
            log.warning("%s: %s; which frames end the process is not kept here", folder, error.strerror)
            self._life = None

    def begin(self, digest: str, *, redelivered: bool = False) -> bool:
        """Say that work on a frame begins; return False if it is not to be opened. A suspect waits to be alone.

        Args:
            digest: of its bytes, in hex.
            redelivered: a process before may have opened it.
        """
        counted = self._counted.get(digest, 0)
        if self._elsewhere is not None:
            counted += self._elsewhere.count(digest, ask=redelivered or counted > 0)
        if counted >= MOST:
            return False
        suspect = redelivered or counted > 0
        with self._changed:
            self._changed.wait_for(lambda: not (suspect or self.alone) or not self._open or self._closing)
            self._open.add(digest)
            self.alone = suspect
        if suspect and self._elsewhere is not None:
            self._elsewhere.opens(digest)
        if self._life is not None:
            with contextlib.suppress(OSError):  # a full disk: this frame is not counted
                os.close(os.open(self._life / digest, os.O_WRONLY | os.O_CREAT, 0o600))
        return True

    def end(self, digest: str) -> None:
        """Say that a frame has been worked on; the process lives, and nothing counts against it any more."""
        with self._changed:
            if digest not in self._open:
                return
        # before a suspect is let in: it may end the process at once, and this frame would count as guilty, too
        with contextlib.suppress(OSError):
            if self._life is not None:
                (self._life / digest).unlink(missing_ok=True)
            if self._counted.pop(digest, 0):
                (self._folder / digest).unlink(missing_ok=True)
        if self._elsewhere is not None:
            self._elsewhere.survived(digest)
        with self._changed:
            self._open.discard(digest)
            self._changed.notify_all()

    def release(self) -> None:
        """Let nobody wait any more: the process is to end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Say that the process ends of its own will: that counts against no frame."""
        if self._report is not None:
            faulthandler.disable()
            os.close(self._report)
            self._report = None
        if self._life is not None:
            shutil.rmtree(self._life, ignore_errors=True)

    def _take_up(self) -> None:
        """Count what processes that are dead were working on."""
        for life in self._folder.glob(f"{LIFE}*"):
            self._found.add(life.name.removeprefix(LIFE))
            # a lock that is held is that of a process that lives
            with contextlib.suppress(OSError), (life / REPORT).open("rb") as report:
                fcntl.flock(report, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._count(life, report.read().decode("utf-8", "replace"))
                shutil.rmtree(life)
        forget = time.time() - REMEMBERED_S
        for path in self._folder.iterdir():
            if path.is_file():
                if path.stat().st_mtime < forget:
                    path.unlink()
                else:
                    text = path.read_text()
                    self._counted[path.name] = int(text) if text.isdecimal() else KILLED

    def _count(self, life: Path, report: str) -> None:
        frames = [path.name for path in life.iterdir() if path.name != REPORT]
        if report:
            log.error("the process before has crashed:\n%s", "\n".join(report.splitlines()[:SHOWN_LINES]))
        for digest in frames:
            path = self._folder / digest
            before = int(path.read_text()) if path.exists() else 0
            path.write_text(str(before + (CRASHED if report else KILLED)))
            log.warning("frame with SHA-256 %s was being worked on when the process before ended", digest)
