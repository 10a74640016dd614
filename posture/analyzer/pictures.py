"""Files that must be on disk before a frame is acknowledged, and the bounds of what is kept."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import secrets
import struct
import time
from collections.abc import Iterable
from pathlib import Path

from posture.system.files import sync_folder, write

log = logging.getLogger(__name__)

TEMPORARY = ".writing-"
PICTURE, UNREADABLE = ".jpg", ".bin"
SPARES = "pictures-from-before-this-file-stay.txt"
EXPLANATION = b"""analyzer.pictures_max_bytes: auto deletes the oldest pictures beyond 2 GB, but none that is older
than this file. A number there deletes those, too.
"""
MARK = b"made from sha256 "
MARK_BYTES = 6 + len(MARK) + 64
"""A JPEG's start, the comment's header, the comment."""
FOLDER_MODE, FILE_MODE = 0o750, 0o640
"""These are pictures of people: for the owner and the group, not for everybody on the host."""


class PicturesUnavailableError(Exception):
    """The disk is full or away: try again later, nothing was acknowledged. Names the folder and the cause."""


def marked(jpeg: bytes, digest: str) -> bytes:
    """Return an annotated picture with a comment that says of which frame it is.

    Args:
        jpeg: a JPEG file.
        digest: SHA-256 of the camera's picture without its stamp, in hex.
    """
    comment = MARK + digest.encode()
    return jpeg[:2] + struct.pack(">HH", 0xFFFE, len(comment) + 2) + comment + jpeg[2:]


class PictureFolder:
    """One stream's annotated pictures. What a killed process left half written is removed.

    Args:
        root: the folder; made at the first write.
        max_bytes: the oldest pictures go beyond this; None keeps all.
        max_age_s: older pictures go, in seconds since they were written; None keeps all.
        spares_earlier: pictures that were there before this folder was first used so are neither counted nor
            deleted by ``max_bytes``: nobody has asked for that.
    """

    def __init__(
        self,
        root: Path,
        max_bytes: int | None = None,
        max_age_s: float | None = None,
        *,
        spares_earlier: bool = False,
    ) -> None:
        self._root, self._max_bytes, self._max_age_s = root, max_bytes, max_age_s
        self._spares_earlier = spares_earlier and max_bytes is not None
        _remove_leftovers(root)

    def write_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write pictures so that they survive a power cut: each under a temporary name, synced, renamed.

        Args:
            files: names without folders, and what goes in.

        Raises:
            PicturesUnavailableError: none of a file is left under its name unless all of it is.
            ValueError: a name is not that of a file in this folder.
        """
        files = list(files)
        if not files:
            return
        try:
            _make_folder(self._root)
            self._earlier()
            for name, data in files:
                _write_durably(self._root, name, data)
            sync_folder(self._root)
        except OSError as error:
            raise PicturesUnavailableError(
                f"pictures can't be written to {self._root}: {error.strerror}"
            ) from error

    def has_another(self, name: str, digest: str) -> bool:
        """Return whether the picture of another frame has this name.

        Args:
            name: without folder.
            digest: SHA-256 of the camera's picture; see ``marked``.

        Raises:
            PicturesUnavailableError: the folder can't be read.
        """
        try:
            with (self._root / name).open("rb") as file:
                return not file.read(MARK_BYTES).endswith(MARK + digest.encode())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise PicturesUnavailableError(f"{self._root / name} can't be read: {error.strerror}") from error

    def prune(self) -> None:
        """Delete pictures that are older, or more bytes, than is kept. Nothing else in the folder is touched.

        Raises:
            PicturesUnavailableError: the folder can't be read or changed.
        """
        if (self._max_bytes is None and self._max_age_s is None) or not self._root.is_dir():
            return
        oldest_kept = time.time() - self._max_age_s if self._max_age_s is not None else None
        try:
            _delete_oldest(
                self._root,
                PICTURE,
                oldest_kept=oldest_kept,
                max_bytes=self._max_bytes,
                spared_before=self._earlier(),
            )
        except OSError as error:
            raise PicturesUnavailableError(f"pictures in {self._root} can't be pruned: {error.strerror}") from error

    def _earlier(self) -> float | None:
        """Return when the oldest picture was written that the bound may delete; None: it may delete any.

        A file of ours in the folder has this as its time. It is written before the first picture and before
        anything is deleted; where it has been lost, it is written anew, and more pictures are spared.
        """
        if not self._spares_earlier:
            return None
        with contextlib.suppress(FileNotFoundError):
            return (self._root / SPARES).stat().st_mtime
        there = _files(self._root, PICTURE)
        # a node's clock may be years behind until the network has set it
        since = max([time.time(), *(math.nextafter(changed, math.inf) for changed, _, _ in there)])
        _write_durably(self._root, SPARES, EXPLANATION, changed=since)
        sync_folder(self._root)
        if there:
            log.warning(
                "%s: %d pictures (%.1f GB) of before stay; a number in analyzer.pictures_max_bytes "
                "deletes the oldest of them, too",
                self._root, len(there), sum(size for _, size, _ in there) / 1e9,
            )  # fmt: skip
        return since


class Quarantine:
    """The bytes of frames that can't be decoded, bounded in count and bytes: the oldest go first.

    Args:
        folder: made at the first write, for its owner alone.
        max_count: files at most.
        max_bytes: bytes at most; a larger payload is not kept at all.
        enabled: False keeps nothing.
    """

    def __init__(self, folder: Path, max_count: int, max_bytes: int, enabled: bool) -> None:
        self._folder, self._max_count, self._max_bytes = folder, max_count, max_bytes
        self._enabled = enabled and max_count > 0
        _remove_leftovers(folder)

    def keep(self, name: str, payload: bytes) -> None:
        """Keep a payload, after making room for it.

        Args:
            name: that of the file, without its ending.
            payload: as it came.

        Raises:
            PicturesUnavailableError: the disk is full or away.
            ValueError: the name is not that of a file in this folder.
        """
        if not self._enabled or len(payload) > self._max_bytes:
            return
        room = self._max_bytes - len(payload)
        try:
            _make_folder(self._folder, 0o700)
            _delete_oldest(self._folder, UNREADABLE, max_bytes=room, max_count=self._max_count - 1)
            _write_durably(self._folder, name + UNREADABLE, payload, 0o600)
            sync_folder(self._folder)
        except OSError as error:
            raise PicturesUnavailableError(f"quarantine {self._folder}: {error.strerror}") from error


def _remove_leftovers(folder: Path) -> None:
    with contextlib.suppress(OSError):  # if the folder is away, the first write will say so
        for leftover in list(folder.glob(f"{TEMPORARY}*")):
            _remove_leftover(leftover)


def _remove_leftover(leftover: Path) -> None:
    with contextlib.suppress(OSError), leftover.open("rb") as file:  # gone meanwhile, or its writer lives
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        leftover.unlink()


def _make_folder(folder: Path, mode: int = FOLDER_MODE) -> None:
    """Make a folder that is still there after a power cut: its name is synced, too."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster
        folder.mkdir(mode=mode)
    sync_folder(folder.parent)


def _write_durably(
    folder: Path, name: str, data: bytes, mode: int = FILE_MODE, *, changed: float | None = None
) -> None:
    if not name or name != os.path.basename(name) or name.startswith("."):
        raise ValueError(f"{name!r} is no name for a file in {folder}")
    descriptor, temporary = _begin_file(folder, mode)
    try:
        with open(descriptor, "wb") as file:
            write(file, data)
            if changed is not None:
                os.utime(temporary, (changed, changed))
                os.fsync(file.fileno())
            os.replace(temporary, folder / name)  # while the file is open, and so locked
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _begin_file(folder: Path, mode: int) -> tuple[int, Path]:
    """Make a temporary file, locked for as long as it is open: nobody takes it for a dead writer's."""
    while True:
        # a name of our own: another analyzer may be writing the same frame
        temporary = folder / f"{TEMPORARY}{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor, temporary
        except OSError:
            os.close(descriptor)
            temporary.unlink()
            raise
        os.close(descriptor)  # whoever started beside us took it before it was locked


def _delete_oldest(
    folder: Path,
    suffix: str,
    *,
    oldest_kept: float | None = None,
    max_bytes: int | None = None,
    max_count: int | None = None,
    spared_before: float | None = None,
) -> None:
    """Delete files older than ``oldest_kept`` (seconds since the epoch), then the oldest beyond the bounds.

    Those from before ``spared_before`` are deleted for their age alone.
    """
    total = 0
    for index, (changed, size, path) in enumerate(sorted(_files(folder, suffix), reverse=True)):
        spared = spared_before is not None and changed < spared_before
        total += 0 if spared else size
        too_old = oldest_kept is not None and changed < oldest_kept
        too_many = max_count is not None and index >= max_count
        too_large = max_bytes is not None and total > max_bytes and not spared
        if too_old or too_many or too_large:
            path.unlink(missing_ok=True)


def _files(folder: Path, suffix: str) -> list[tuple[float, int, Path]]:
    """Return (time of change in seconds, size in bytes, path) of the files with that ending."""
    found = []
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(suffix) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime, status.st_size, Path(entry.path)))
    return found
