"""Files that must be on disk before a frame is acknowledged, and the bounds of what is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

TEMPORARY = ".writing-"


class PicturesUnavailable(Exception):  # noqa: N818 - a state of the disk, like StoreUnavailable
    """The disk is full or away: try again later, nothing was acknowledged. Names the folder and the cause."""


class PictureFolder:
    """One stream's annotated pictures.

    Args:
        root: the folder; made at the first write.
        max_bytes: the oldest go beyond this; None keeps all.
        max_age_s: older ones go; None keeps all.
    """

    def __init__(self, root: Path, max_bytes: int | None = None, max_age_s: float | None = None) -> None:
        self._root, self._max_bytes, self._max_age_s = root, max_bytes, max_age_s
        for leftover in root.glob(f"{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)

    def write_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files so that they survive a power cut: each under a temporary name, synced, renamed.

        Raises:
            PicturesUnavailable: none of a file is left under its name unless all of it is.
        """
        files = list(files)
        if not files:
            return
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            for name, data in files:
                _write_durably(self._root, name, data)
            _sync_folder(self._root)
        except OSError as error:
            raise PicturesUnavailable(f"pictures can't be written to {self._root}: {error.strerror}") from error

    def prune(self) -> None:
        """Delete what is older or more than is kept.

        Raises:
            PicturesUnavailable: the folder can't be read or changed.
        """
        if self._max_bytes is None and self._max_age_s is None:
            return
        oldest_kept = time.time() - self._max_age_s if self._max_age_s is not None else 0.0
        try:
            _delete_oldest(self._root, oldest_kept, self._max_bytes, None)
        except OSError as error:
            raise PicturesUnavailable(f"pictures in {self._root} can't be pruned: {error.strerror}") from error


class Quarantine:
    """The bytes of frames that can't be decoded, bounded in count and bytes: the oldest go first.

    Args:
        folder: made at the first write.
        max_count: files at most.
        max_bytes: bytes at most; a larger payload is not kept at all.
        enabled: False keeps nothing.
    """

    def __init__(self, folder: Path, max_count: int, max_bytes: int, enabled: bool) -> None:
        self._folder, self._max_count, self._max_bytes, self._enabled = folder, max_count, max_bytes, enabled

    def keep(self, name: str, payload: bytes) -> None:
        """Keep a payload under a name that is safe for a file.

        Raises:
            PicturesUnavailable: the disk is full or away.
        """
        if not self._enabled or len(payload) > self._max_bytes:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_durably(self._folder, f"{name}.bin", payload)
            _sync_folder(self._folder)
            _delete_oldest(self._folder, 0.0, self._max_bytes, self._max_count)
        except OSError as error:
            raise PicturesUnavailable(f"quarantine {self._folder}: {error.strerror}") from error


def _write_durably(folder: Path, name: str, data: bytes) -> None:
    temporary = folder / f"{TEMPORARY}{name}"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / name)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete_oldest(folder: Path, oldest_kept: float, max_bytes: int | None, max_count: int | None) -> None:
    """Delete files older than ``oldest_kept`` (seconds since the epoch), then the oldest beyond the bounds."""
    if not folder.exists():
        return
    entries = []
    for entry in os.scandir(folder):
        status = entry.stat()
        entries.append((status.st_mtime, status.st_size, entry.path))
    newest_first = sorted(entries, reverse=True)
    total = 0
    for index, (changed, size, path) in enumerate(newest_first):
        total += size
        too_many = max_count is not None and index >= max_count
        too_large = max_bytes is not None and total > max_bytes
        if changed < oldest_kept or too_many or too_large:
            Path(path).unlink(missing_ok=True)
