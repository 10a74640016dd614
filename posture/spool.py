"""Frames that wait on the camera's disk until their receipt says that a row has them."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from pathlib import Path

from posture.errors import UserError
from posture.frame import identify, safe_name

SUFFIX, TEMPORARY = ".jpg", ".writing"


class Spool:
    """A folder of frames, bounded in bytes and age: the oldest go first, and are counted.

    Args:
        folder: made if it is not there; frames of an earlier run in it are taken up again.
        max_bytes: a full spool drops its oldest frame for a new one.
        max_age_s: older frames are dropped.

    Raises:
        UserError: the folder can't be made or read.
    """

    def __init__(self, folder: Path, max_bytes: int, max_age_s: float) -> None:
        self._folder, self._max_bytes, self._max_age_s = folder, max_bytes, max_age_s
        self.dropped = 0
        self._bytes = 0
        # id -> (path, bytes, seconds since the epoch), oldest first
        self._frames: OrderedDict[str, tuple[Path, int, float]] = OrderedDict()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(f"*{TEMPORARY}"):
                leftover.unlink()
            for path in sorted(folder.glob(f"*{SUFFIX}")):
                data = path.read_bytes()
                self._remember(identify(data, {}).frame_id, path, len(data), path.stat().st_mtime)
        except OSError as error:
            raise UserError(f"--spool {folder}: {error.strerror}; accepted: a folder that can be written") from None

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, frame_id: str) -> bool:
        return frame_id in self._frames

    def add(self, frame_id: str, jpeg: bytes) -> None:
        """Keep a frame.

        Raises:
            OSError: the disk is full or away; the frame is not kept.
        """
        now = time.time()
        self._drop_old(now, len(jpeg))
        # the time first, so that a listing by name is in order of capture
        path = self._folder / f"{time.time_ns():020d}-{safe_name(frame_id)}{SUFFIX}"
        temporary = path.with_suffix(TEMPORARY)
        with temporary.open("wb") as file:
            file.write(jpeg)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        self._remember(frame_id, path, len(jpeg), now)

    def ids(self) -> list[str]:
        """Return the ids of all frames, oldest first."""
        return list(self._frames)

    def read(self, frame_id: str) -> bytes | None:
        """Return a frame's bytes; None if it is not there any more."""
        if frame_id not in self._frames:
            return None
        try:
            return self._frames[frame_id][0].read_bytes()
        except FileNotFoundError:
            self.remove(frame_id)
            return None

    def remove(self, frame_id: str) -> bool:
        """Let a frame go, for it has its receipt; return whether it was there."""
        if frame_id not in self._frames:
            return False
        path, size, _ = self._frames.pop(frame_id)
        self._bytes -= size
        path.unlink(missing_ok=True)
        return True

    def _remember(self, frame_id: str, path: Path, size: int, at: float) -> None:
        self._frames[frame_id] = (path, size, at)
        self._bytes += size

    def _drop_old(self, now: float, room: int) -> None:
        while self._frames:
            frame_id, (_, _, at) = next(iter(self._frames.items()))
            if self._bytes + room <= self._max_bytes and now - at <= self._max_age_s:
                return
            self.remove(frame_id)
            self.dropped += 1
