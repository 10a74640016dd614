"""Frames that wait at the camera, on disk or in memory, until a receipt confirms that their row is stored."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from posture.errors import UserError
from posture.system import files
from posture.wire.frame import identify, safe_name

SUFFIX, TEMPORARY, ASIDE = ".jpg", ".writing", ".set-aside"
KEPT_ASIDE = 20
FOLDER_MODE, FILE_MODE = 0o700, 0o600
"""These are the camera's own pictures of people, as they were taken: for nobody else on the machine."""
HEAD_BYTES = 16_384
"""The JPEG comment with the frame's id is within these first bytes, so that a large spool is scanned quickly."""


@dataclass(frozen=True)
class _Entry:
    place: Path | bytes
    size: int
    since: float
    """On the monotonic clock: a Pi's wall clock may jump by years at its first NTP synchronisation."""


class Waiting(ABC):
    """A queue of frames, bounded in bytes and age: the oldest are dropped first, and counted. Thread-safe.

    Args:
        max_bytes: the oldest frames are dropped so that a new one fits into this.
        max_age_s: frames that have waited longer are dropped.
    """

    def __init__(self, max_bytes: int, max_age_s: float) -> None:
        self.dropped = self.set_aside = 0
        self._max_bytes, self._max_age_s = max_bytes, max_age_s
        self._lock = threading.RLock()
        self._bytes = 0
        self._frames: OrderedDict[str, _Entry] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, frame_id: str) -> bool:
        return frame_id in self._frames

    def ids(self) -> list[str]:
        """Return the ids of all frames, oldest first."""
        with self._lock:
            return list(self._frames)

    def add(self, frame_id: str, jpeg: bytes) -> bool:
        """Keep a frame; return False if it is larger than ``max_bytes`` and so dropped.

        Raises:
            OSError: the disk is full or away; the frame is dropped.
        """
        if len(jpeg) > self._max_bytes:
            self.dropped += 1
            return False
        self.drop_old(len(jpeg))
        try:
            place = self._keep(frame_id, jpeg)
        except OSError:
            self.dropped += 1
            raise
        self._remember(frame_id, _Entry(place, len(jpeg), time.monotonic()))
        return True

    @abstractmethod
    def read(self, frame_id: str) -> bytes | None:
        """Return a frame's bytes; None if it is not there any more."""

    def remove(self, frame_id: str) -> bool:
        """Remove a frame that has its receipt; return whether it was there."""
        with self._lock:
            entry = self._frames.pop(frame_id, None)
            if entry is None:
                return False
            self._bytes -= entry.size
        self._discard(entry)
        return True

    def drop(self, frame_id: str) -> None:
        """Remove a frame that has no receipt, and count it as dropped."""
        self.dropped += self.remove(frame_id)

    def put_aside(self, frame_id: str) -> None:
        """Remove a frame that the broker does not take, and count it; on disk it is kept to be looked at."""
        with self._lock:
            entry = self._frames.get(frame_id)
            if entry is not None and isinstance(entry.place, Path):
                _keep_aside(entry.place)
        self.set_aside += self.remove(frame_id)

    def drop_old(self, room: int = 0) -> None:
        """Drop frames that are too old, then the oldest ones until ``room`` bytes are free."""
        with self._lock:
            while self._frames:
                frame_id, entry = next(iter(self._frames.items()))
                fits = self._bytes + room <= self._max_bytes
                if fits and time.monotonic() - entry.since <= self._max_age_s:
                    return
                self.drop(frame_id)

    @abstractmethod
    def close(self) -> None:
        """End the use of the queue."""

    def _remember(self, frame_id: str, entry: _Entry) -> None:
        with self._lock:
            self._frames[frame_id] = entry
            self._bytes += entry.size

    @abstractmethod
    def _keep(self, frame_id: str, jpeg: bytes) -> Path | bytes: ...

    def _discard(self, entry: _Entry) -> None:
        if isinstance(entry.place, Path):
            entry.place.unlink(missing_ok=True)


class Memory(Waiting):
    """A queue in memory, lost with the process."""

    def read(self, frame_id: str) -> bytes | None:
        """Return a frame's bytes; None if it is not there any more."""
        entry = self._frames.get(frame_id)
        return entry.place if entry is not None and isinstance(entry.place, bytes) else None

    def close(self) -> None:
        """Discard all frames."""
        self._frames.clear()

    def _keep(self, frame_id: str, jpeg: bytes) -> bytes:
        del frame_id
        return jpeg


class Spool(Waiting):
    """A queue in a folder; frames of an earlier run are in it again.

    Args:
        folder: created if missing, and locked: only one publisher at a time uses it.
        max_bytes: a full spool drops its oldest frame for a new one.
        max_age_s: older frames are dropped.
        sync: wait until the disk has a frame; without it a power cut loses the frames of the last seconds.

    Raises:
        UserError: the folder can't be created or read, or another publisher has locked it.
    """

    def __init__(self, folder: Path, max_bytes: int, max_age_s: float, *, sync: bool = True) -> None:
        super().__init__(max_bytes, max_age_s)
        self._folder, self._sync, self._last_name = folder, sync, 0
        try:
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self._handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"--spool {folder}: another publisher has it; accepted: a folder for each stream"
                ) from None
            self._take_up()
        except OSError as error:
            raise UserError(f"--spool {folder}: {error.strerror}; accepted: a folder that can be written") from None

    def read(self, frame_id: str) -> bytes | None:
        """Return a frame's bytes; None if it is not there any more, or its file can't be read."""
        entry = self._frames.get(frame_id)
        if entry is None or not isinstance(entry.place, Path):
            return None
        try:
            return entry.place.read_bytes()
        except FileNotFoundError:
            self.drop(frame_id)
            return None

    def close(self) -> None:
        """Unlock the folder; its frames wait for the next run."""
        os.close(self._handle)

    def _keep(self, frame_id: str, jpeg: bytes) -> Path:
        # names sort in order of arrival, even if the clock is set back
        self._last_name = max(self._last_name + 1, time.time_ns())
        path = self._folder / f"{self._last_name:020d}-{safe_name(frame_id)}{SUFFIX}"
        files.replace(path, jpeg, temporary=path.with_name(path.name + TEMPORARY), sync=self._sync, mode=FILE_MODE)
        return path

    def _take_up(self) -> None:
        for unfinished in self._folder.glob(f"*{TEMPORARY}"):
            unfinished.unlink()
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            status = path.stat()
            if not status.st_size:  # a power cut came after the rename and before the data
                path.unlink()
                self.dropped += 1
                continue
            path.chmod(FILE_MODE)  # those of an earlier version were for everybody
            age = max(0.0, time.time() - status.st_mtime)
            self._remember(_id_of(path), _Entry(path, status.st_size, time.monotonic() - age))
            number = path.name.split("-", 1)[0]
            self._last_name = max(self._last_name, int(number) if number.isdecimal() else 0)
        self.drop_old()


def _keep_aside(path: Path) -> None:
    """Give a file a name under which it is not taken up again; only the last ones are kept."""
    path.replace(path.with_name(f"{path.name}{ASIDE}"))
    for old in sorted(path.parent.glob(f"*{ASIDE}"))[:-KEPT_ASIDE]:
        old.unlink()


def _id_of(path: Path) -> str:
    with path.open("rb") as file:
        identity = identify(file.read(HEAD_BYTES), {})
    return identity.frame_id if identity.source == "comment" else identify(path.read_bytes(), {}).frame_id
