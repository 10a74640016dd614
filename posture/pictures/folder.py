"""Pictures in a folder of this machine: on disk, folder included, when a write returns."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from posture.pictures.base import (
    MARK_BYTES,
    MOST_BYTES,
    NAME,
    PICTURE,
    PicturesUnavailableError,
    beyond_bounds,
    is_marked,
)
from posture.system.files import check_writable, sync_folder, write

log = logging.getLogger(__name__)

TEMPORARY = ".writing-"
SPARES = "pictures-from-before-this-file-stay.txt"
EXPLANATION = b"""analyzer.pictures_max_bytes: auto deletes the oldest pictures beyond 2 GB, but none that is older
than this file. A number there deletes those, too.
"""
FOLDER_MODE, FILE_MODE = 0o750, 0o640
"""These are pictures of people: for the owner and the group, not for everybody on the host."""


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
        self.place = str(root)
        remove_leftovers(root)

    def check(self) -> None:
        """See ``Pictures.check``."""
        check_writable(self._root.parent, "analyzer.pictures_dir")

    def write_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write pictures so that they survive a power cut: each under a temporary name, synced, renamed."""
        files = list(files)
        if not files:
            return
        try:
            make_folder(self._root)
            self._earlier()
            for name, data in files:
                write_durably(self._root, name, data)
            sync_folder(self._root)
        except OSError as error:
            raise PicturesUnavailableError(
                f"pictures can't be written to {self._root}: {error.strerror}"
            ) from error

    def has_another(self, name: str, digest: str) -> bool:
        """See ``Pictures.has_another``."""
        try:
            with (self._root / name).open("rb") as file:
                return not is_marked(file.read(MARK_BYTES), digest)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise PicturesUnavailableError(f"{self._root / name} can't be read: {error.strerror}") from error

    def prune(self) -> None:
        """See ``Pictures.prune``; nothing else in the folder is touched."""
        if (self._max_bytes is None and self._max_age_s is None) or not self._root.is_dir():
            return
        oldest_kept = time.time() - self._max_age_s if self._max_age_s is not None else None
        try:
            delete_oldest(
                self._root,
                PICTURE,
                oldest_kept=oldest_kept,
                max_bytes=self._max_bytes,
                spared_before=self._earlier(),
            )
        except OSError as error:
            raise PicturesUnavailableError(f"pictures in {self._root} can't be pruned: {error.strerror}") from error

    def has(self, name: str) -> bool:
        """See ``Pictures.has``; a link is no picture of ours."""
        path = self._root / name
        return NAME.fullmatch(name) is not None and path.is_file() and not path.is_symlink()

    def read(self, name: str) -> bytes | None:
        """See ``Pictures.read``."""
        if not self.has(name):
            return None
        try:
            if (self._root / name).stat().st_size > MOST_BYTES:
                return None
            return (self._root / name).read_bytes()
        except FileNotFoundError:  # deleted meanwhile
            return None
        except OSError as error:
            raise PicturesUnavailableError(f"{self._root / name} can't be read: {error.strerror}") from error

    def delete_all(self) -> int:
        """See ``Pictures.delete_all``; the folder goes, too, unless something else is in it."""
        deleted = 0
        try:
            for _, _, path in _files(self._root, PICTURE):
                path.unlink(missing_ok=True)
                deleted += 1
            (self._root / SPARES).unlink(missing_ok=True)
            remove_leftovers(self._root)
        except OSError as error:
            raise PicturesUnavailableError(f"{self._root}: can't be deleted: {error.strerror}") from error
        with contextlib.suppress(OSError):
            self._root.rmdir()
        return deleted

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
        write_durably(self._root, SPARES, EXPLANATION, changed=since)
        sync_folder(self._root)
        if there:
            log.warning(
                "%s: %d pictures (%.1f GB) of before stay; a number in analyzer.pictures_max_bytes "
                "deletes the oldest of them, too",
                self._root, len(there), sum(size for _, size, _ in there) / 1e9,
            )  # fmt: skip
        return since


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written; what a live one is writing stays."""
    with contextlib.suppress(OSError):  # if the folder is away, the first write will say so
        for leftover in list(folder.glob(f"{TEMPORARY}*")):
            _remove_leftover(leftover)


def _remove_leftover(leftover: Path) -> None:
    with contextlib.suppress(OSError), leftover.open("rb") as file:  # gone meanwhile, or its writer lives
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        leftover.unlink()


def make_folder(folder: Path, mode: int = FOLDER_MODE) -> None:
    """Make a folder that is still there after a power cut: its name is synced, too."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster
        folder.mkdir(mode=mode)
    sync_folder(folder.parent)


def write_durably(
    folder: Path, name: str, data: bytes, mode: int = FILE_MODE, *, changed: float | None = None
) -> None:
    """Write a file under a temporary name, sync it, rename it; the folder is not synced yet.

    Args:
        folder: where.
        name: without folder.
        data: what goes in.
        mode: permissions, less the umask.
        changed: its time, in seconds since the epoch; None: now.

    Raises:
        OSError: nothing is left of it.
        ValueError: the name is not that of a file in this folder.
    """
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


def delete_oldest(
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
    for path in beyond_bounds(
        _files(folder, suffix),
        oldest_kept=oldest_kept,
        max_bytes=max_bytes,
        max_count=max_count,
        spared_before=spared_before,
    ):
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
